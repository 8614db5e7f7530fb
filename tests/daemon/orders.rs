//! `policy`, `keep`, `actions` and `why` as a person uses them, beside the running daemon and without it.

use std::{process::Output, time::Duration};

use serde_json::Value;
use spheron_watch::{model::Usd, sim::Spec};

use crate::lab::{Hook, Lab};

const POLICY: &str = "[[policy]]\nname = \"old-boxes\"\nmatch = { name = [\"dev-*\"] }\nwhen = { running_for = \"1h\" }\n\
                      grace = \"1m\"\n[safety]\nmin_observed_age = \"1m\"\n";

fn run(lab: &Lab, arguments: &[&str]) -> Output {
    lab.configured(arguments).env("USER", "ann").output().unwrap()
}

fn shown(lab: &Lab, arguments: &[&str]) -> String {
    let output = run(lab, arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(lab: &Lab, arguments: &[&str]) -> Value {
    let document: Value = serde_json::from_str(&shown(lab, &[&["-o", "json"], arguments].concat())).unwrap();
    assert_eq!(document["schema"], 1, "{document}");
    document
}

/// The message, and nothing on stdout.
fn refused(lab: &Lab, arguments: &[&str], code: i32) -> String {
    let output = run(lab, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

fn lab() -> Lab {
    Lab::new(|world, now| {
        let team = world.add_team("research", "owner", Usd::from_cents(100_000));
        let began = now.minus(Duration::from_secs(7_200));
        world.deploy(began, Spec::new(&team, "dev-ana"));
        world.deploy(began, Spec::new(&team, "train"));
    })
}

#[test]
fn a_policy_is_looked_at_armed_with_its_code_and_disarmed() {
    let (lab, hook) = (lab(), Hook::new());
    let config = lab.config(&[("hook", &hook)], POLICY);
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    has(
        &shown(&lab, &["policy", "list"]),
        &["old-boxes", "dry run", "running for 1h", "name=dev-*", "policy arm NAME"],
    );
    has(
        &shown(&lab, &["policy", "show", "old-boxes"]),
        &["a dry run", "at most 2 an hour", "dev-ana", "policy arm old-boxes"],
    );

    let preview = json(&lab, &["policy", "arm", "old-boxes"]);
    let code = preview["code"].as_str().unwrap().to_owned();
    assert_eq!(
        preview["would_end"],
        serde_json::json!([]),
        "it has not been seen for long enough: {preview}"
    );
    assert_eq!(preview["waiting"][0]["deployment"]["name"], "dev-ana");
    let confirm = format!("--confirm={code}");
    has(
        &shown(&lab, &["policy", "arm", "old-boxes"]),
        &["Nothing is changed yet", &format!("  spheron-watch policy arm old-boxes {confirm}")],
    );
    let arm = ["policy", "arm", "old-boxes", &*confirm];
    has(&refused(&lab, &arm, 1), &["none of the policy's receivers", "test-notify"]);
    has(&refused(&lab, &["policy", "arm", "old"], 1), &["there is no policy of this name"]);

    let good = std::fs::read_to_string(&config).unwrap();
    lab.file(
        "config.toml",
        &format!(
            "{good}\n[[rule]]\nname = \"rich\"\nkind = \"balance\"\nbelow = 5000.0\nseverity = \"warning\"\n"
        ),
    );
    daemon.reload();
    hook.wait_for("rich", "alert.firing");
    has(
        &refused(&lab, &["policy", "arm", "old-boxes", "--confirm=00000000"], 1),
        &["the code is not that of", "look at the list again"],
    );
    has(&shown(&lab, &arm), &["old-boxes is armed since", "by ann", "policy disarm old-boxes"]);
    assert_eq!(json(&lab, &["policy", "list"])["items"][0]["state"], "armed");
    has(&shown(&lab, &["policy", "arm", "old-boxes"]), &["old-boxes is armed since", "by ann", "To stop it"]);

    has(
        &shown(&lab, &["why", "dev-ana"]),
        &["old-boxes (policy, armed)", "stopped by", "running for 1h", "keep"],
    );
    has(&shown(&lab, &["why", "train"]), &["not matched  old-boxes (policy, armed)"]);
    has(&shown(&lab, &["actions"]), &["no policy is about to end anything"]);
    has(&refused(&lab, &["actions", "show", "act_0"], 1), &["no action has this id"]);
    has(&refused(&lab, &["actions", "cancel", "act_0"], 1), &["no action has this id"]);
    has(
        &shown(&lab, &["policy", "disarm", "old-boxes"]),
        &["is a dry run from now on", "Nothing was announced"],
    );
    has(&shown(&lab, &["policy", "disarm", "old-boxes"]), &["was a dry run already"]);

    daemon.kill();
    let output = run(&lab, &["policy", "list"]);
    assert!(output.status.success(), "{output:?}");
    has(&String::from_utf8(output.stderr).unwrap(), &["This is from the database"]);
    for changing in [
        &["policy", "arm", "old-boxes"][..],
        &arm,
        &["policy", "disarm", "old-boxes"],
        &["actions", "cancel", "act_0"],
    ] {
        has(
            &refused(&lab, changing, 1),
            &["no daemon answers at", "start it: systemctl start spheron-watch"],
        );
    }
}

#[test]
fn a_deployment_is_kept_and_the_keep_ended() {
    let lab = lab();
    lab.config(&[("hook", &Hook::new())], POLICY);
    has(&refused(&lab, &["keep", "dev-ana", "--for", "1d"], 1), &["start it: systemctl start spheron-watch"]);
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    has(&shown(&lab, &["keep", "list"]), &["no keep holds"]);
    let kept = json(&lab, &["keep", "dev-a", "--for", "1d", "--reason", "the demo"]);
    assert_eq!(
        (&kept["deployment"]["name"], &kept["by"], &kept["reason"]),
        (&"dev-ana".into(), &"ann".into(), &"the demo".into())
    );
    has(
        &shown(&lab, &["keep", "train", "--forever"]),
        &["train is kept until the keep is ended", "It runs on and costs $", "spheron-watch keep end kp_"],
    );
    has(&shown(&lab, &["keep", "list"]), &["dev-ana", " in ", "forever", "2 deployments kept and running"]);
    has(&shown(&lab, &["why", "dev-ana"]), &["kept  old-boxes (policy, dry run)", "ann keeps it until"]);

    let id = kept["id"].as_str().unwrap();
    has(&shown(&lab, &["keep", "end", id]), &[id, "has ended"]);
    assert_eq!(json(&lab, &["keep", "list"])["total"], 1);
    assert_eq!(json(&lab, &["keep", "list", "--all"])["total"], 2);
    has(&refused(&lab, &["keep", "end", id], 1), &["no keep that holds has this id"]);
    has(&refused(&lab, &["keep", "list", "--for", "1d"], 2), &["unexpected argument"]);
    has(&refused(&lab, &["keep", "--for", "1d", "list"], 2), &["keep --for 1d -- list"]);
    has(&refused(&lab, &["keep", "dev-ana"], 2), &["--for", "--until", "--forever"]);
    has(&refused(&lab, &["keep", "dev-ana", "--until", "2020-01-01T00:00:00Z"], 2), &["which is past"]);
    has(&refused(&lab, &["silence", "add", "--match", "colour=red", "--for", "1h"], 2), &["colour"]);
    let silence = json(&lab, &["silence", "add", "--match", "rule=low-balance", "--for", "1h"]);
    assert_eq!(silence["author"], "ann");
}
