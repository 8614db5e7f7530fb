//! Secrets, searched for in everything that the process leaves: logs down to TRACE, the database, pages, commands' output.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use spheron_watch::{
    model::Usd,
    sim::{self, Event, FAKE_KUBECONFIG, Spec},
};

use crate::{
    lab::{Hook, Lab, URL_SECRET, until},
    smtp::{Script, Tls, server},
};

const PASSWORD: &str = "c0rrect-horse-battery";
const SIGNING: &str = "bm90LXRvLWJlLXNlZW4tYW55d2hlcmUtYXQtYWxs";

/// Every file under a folder.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(path) } else { vec![path] }).collect()
}

/// Everything in the database's folder. While the daemon runs, the newest rows are in the WAL.
pub fn state(lab: &Lab) -> Vec<(String, Vec<u8>)> {
    let files = files(lab.path("state")).into_iter();
    files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

pub fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Neither the key, nor what stands in every hook's URL, nor any of these is in any of those.
pub fn assert_silent(heard: &[(String, Vec<u8>)], more: &[String]) {
    let always = [sim::KEY.to_owned(), URL_SECRET.to_owned()];
    for (place, bytes) in heard {
        for needle in always.iter().chain(more) {
            assert!(!holds(bytes, needle.as_bytes()), "{needle} is in {place}");
        }
    }
}

#[test]
fn fault_76_no_secret_is_in_logs_database_metrics_pages_or_output() {
    let lab = Lab::new(|world, now| {
        let team = world.add_team("research", "owner", Usd::from_cents(500));
        let mut spec = Spec::new(&team, "cluster");
        spec.kubernetes = true;
        let ended = world.deploy(now.minus(std::time::Duration::from_secs(7_200)), spec.clone());
        world.deploy(now.minus(std::time::Duration::from_secs(7_200)), spec);
        world.at(now.minus(std::time::Duration::from_secs(600)), Event::ProviderStop(ended));
    });
    let mut script = Script::new(Tls::Upgrade);
    script.login = Some(("watch", PASSWORD));
    let mail = lab.runtime.block_on(server(&lab.path("."), script));
    let hook = Hook::answering(|_, again| if again == 0 { 500 } else { 200 });
    let nobody = Hook::answering(|_, _| 404);
    let signing = lab.file("signing", &format!("whsec_{SIGNING}"));
    let password = lab.file("password", PASSWORD);
    let url = lab.file("signed.url", &hook.url());
    lab.config(
        &[("nobody", &nobody)],
        &format!(
            "[[receiver]]\nname = \"signed\"\nwebhook = {{ url_file = {url:?}, secret_file = {signing:?} }}\n\
             [[receiver]]\nname = \"mail\"\nemail = {{ to = [\"ops@example.org\"] }}\n\
             [smtp]\nsmarthost = \"localhost:{}\"\nfrom = \"watch@example.org\"\nusername = \"watch\"\n\
             password_file = {password:?}\nca_file = {:?}\n\
             [alerts]\ndefaults = true\n",
            mail.port, mail.ca_file
        ),
    );
    let config = fs::read_to_string(lab.path("config.toml")).unwrap();
    let config = config.replace("receivers = [\"nobody\"]", "receivers = [\"nobody\", \"signed\", \"mail\"]");
    lab.file("config.toml", &config);
    let mut command = lab.configured(&["run"]);
    command.env("SPHERON_WATCH_LOG", "trace");
    let mut daemon = lab.launch(command);
    daemon.wait_until_ready();
    hook.wait_for("low-balance", "alert.firing");
    nobody.wait_for("low-balance", "alert.firing");
    until("a mail", || (!mail.seen().mails.is_empty()).then_some(()));
    until("the second attempt", || hook.sent().iter().any(|sent| sent.id == hook.sent()[0].id).then_some(()));

    let mut heard = Vec::new();
    for page in ["/", "/metrics", "/healthz", "/readyz", "/nothing"] {
        heard.push((page.to_owned(), daemon.get(page).unwrap().1.into_bytes()));
    }
    let (status, deliveries) = daemon.get("/api/v1/deliveries").unwrap();
    assert!(status == 200 && deliveries.contains("404"), "{deliveries}");
    assert!(!deliveries.contains("://") && !deliveries.contains("127.0.0.1"), "no address: {deliveries}");
    heard.push(("the deliveries".into(), deliveries.into_bytes()));
    lab.file("config.toml", &format!("{config}\n[[receiver]]\nname = 3\n"));
    daemon.reload();
    until("a failed reload", || daemon.log().contains("old one stays in force").then_some(()));
    lab.file("config.toml", &config);
    lab.happens(Event::RevokeKey);
    daemon.reload();
    hook.wait_for("key-rejected", "alert.firing");
    for arguments in [vec!["check-config"], vec!["check-config", "--online"], vec!["test-notify"]] {
        let mut command = lab.configured(&arguments);
        let output = command.env("SPHERON_WATCH_LOG", "trace").output().unwrap();
        heard.push((format!("stdout of {arguments:?}"), output.stdout));
        heard.push((format!("stderr of {arguments:?}"), output.stderr));
    }
    heard.extend(state(&lab));
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
    heard.extend(state(&lab));
    heard.push(("the log".into(), daemon.log().into_bytes()));

    let login = format!("\0watch\0{PASSWORD}");
    let needles = [
        PASSWORD.to_owned(),
        STANDARD.encode(login),
        STANDARD.encode(PASSWORD),
        SIGNING.to_owned(),
        FAKE_KUBECONFIG.to_owned(),
    ];
    assert_silent(&heard, &needles);
    // The search had something to find it in.
    let log = daemon.log();
    assert!(log.contains("TRACE") && log.contains("DEBUG"), "logged down to TRACE");
    assert!(mail.seen().logins > 0 && hook.sent()[0].head.contains("webhook-signature: v1,"));
    assert!(heard.iter().any(|(place, _)| place.ends_with("-wal")), "the WAL was searched");
}
