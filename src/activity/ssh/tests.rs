use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::model::{DeploymentId, InstanceType, Status, TeamId, Time, Usd, activity::NVIDIA_SMI};

fn deployment(ip: &str, user: &str, port: Option<&str>) -> Deployment {
    Deployment {
        id: DeploymentId::new("65f0c1"),
        created_at: Time::from_secs(1_790_000_000),
        name: "train".into(),
        team: TeamId::new("t1"),
        gpu_type: "H100".into(),
        gpu_count: 1,
        provider: "spheron-ai".into(),
        region: "us".into(),
        instance_type: InstanceType::new("SPOT"),
        status: Status::Running,
        hourly_rate: Usd::ZERO,
        total_cost: Usd::ZERO,
        started_at: None,
        stopped_at: None,
        kubernetes: false,
        access: Access { ip: Some(ip.into()), user: Some(user.into()), ssh_port: port.map(Into::into) },
    }
}

/// A program in ssh's place, and the folder it lives in.
fn stand_in(script: &str, deadline_ms: u64) -> (tempfile::TempDir, Ssh) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ssh");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let known_hosts = folder.path().join("known hosts 100%");
    (folder, Ssh { program, known_hosts, deadline: Duration::from_millis(deadline_ms) })
}

async fn ask(ssh: &Ssh, deployment: &Deployment) -> Result<Vec<f64>, String> {
    ssh.ask(Reach::Public, Path::new("/keys/id"), NVIDIA_SMI, deployment).await
}

#[tokio::test]
async fn fault_78_a_login_outside_the_patterns_runs_no_ssh() {
    let (folder, ssh) = stand_in("touch \"$(dirname \"$0\")/ran\"; echo 0", 10_000);
    let ran = folder.path().join("ran");
    for (ip, user, port, why) in [
        ("-oProxyCommand=touch /tmp/x", "ubuntu", None, "no IP address"),
        ("203.0.113.7 -oProxyCommand=x", "ubuntu", None, "no IP address"),
        ("127.0.0.1", "ubuntu", None, "loopback"),
        ("169.254.169.254", "ubuntu", None, "metadata"),
        ("10.0.0.8", "ubuntu", None, "private"),
        ("203.0.113.7", "-oProxyCommand=touch /tmp/x", None, "user"),
        ("203.0.113.7", "-l", None, "user"),
        ("203.0.113.7", "", None, "user"),
        ("203.0.113.7", "a b", None, "user"),
        ("203.0.113.7", "a@b", None, "user"),
        ("203.0.113.7", "root;id", None, "user"),
        ("203.0.113.7", "$(id)", None, "user"),
        ("203.0.113.7", "%h", None, "user"),
        ("203.0.113.7", "1root", None, "user"),
        ("203.0.113.7", "rööt", None, "user"),
        ("203.0.113.7", "root\n", None, "user"),
        ("203.0.113.7", "a23456789012345678901234567890123", None, "user"),
        ("203.0.113.7", "ubuntu", Some("0"), "port"),
        ("203.0.113.7", "ubuntu", Some("65536"), "port"),
        ("203.0.113.7", "ubuntu", Some("-1"), "port"),
        ("203.0.113.7", "ubuntu", Some("+22"), "port"),
        ("203.0.113.7", "ubuntu", Some("022"), "port"),
        ("203.0.113.7", "ubuntu", Some("22.5"), "port"),
        ("203.0.113.7", "ubuntu", Some("22 -oProxyCommand=x"), "port"),
        ("203.0.113.7", "ubuntu", Some(""), "port"),
    ] {
        let refused = ask(&ssh, &deployment(ip, user, port)).await.unwrap_err();
        assert!(refused.contains(why), "{ip} {user} {port:?}: {refused}");
        assert!(!ran.exists(), "{ip} {user} {port:?} ran ssh");
    }
    for id in ["-oProxyCommand=x", "a b", "a\"b", "", "%d", "../x"] {
        let strange = Deployment { id: DeploymentId::new(id), ..deployment("203.0.113.7", "ubuntu", None) };
        assert!(ask(&ssh, &strange).await.unwrap_err().contains("id"), "{id}");
        assert!(!ran.exists(), "{id} ran ssh");
    }
    let nobody = Deployment { access: Access::default(), ..deployment("203.0.113.7", "ubuntu", None) };
    assert!(ask(&ssh, &nobody).await.is_err());
    assert_eq!(ask(&ssh, &deployment("203.0.113.7", "ubuntu", None)).await, Ok(vec![0.0]));
    assert!(ran.exists(), "the stand-in does not show whether it ran");
}

#[tokio::test]
async fn every_argument_is_ours_and_the_environment_is_empty() {
    let (folder, ssh) = stand_in(
        "d=$(dirname \"$0\"); for a in \"$@\"; do echo \"<$a>\"; done > \"$d/args\"; env > \"$d/env\"; echo 3",
        10_000,
    );
    assert_eq!(ask(&ssh, &deployment("2a01:4f8::1", "ubuntu", Some("2222"))).await, Ok(vec![3.0]));
    let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let args = file("args");
    let args: Vec<&str> = args.lines().collect();
    let known = format!("<UserKnownHostsFile=\"{}/known hosts 100%%\">", folder.path().display());
    for expected in [
        "<BatchMode=yes>",
        "<StrictHostKeyChecking=accept-new>",
        "<HostKeyAlias=65f0c1.1790000000>",
        "<ConnectTimeout=10>",
        &known,
    ] {
        let at =
            args.iter().position(|arg| *arg == expected).unwrap_or_else(|| panic!("{expected} in {args:?}"));
        assert_eq!(args[at - 1], "<-o>");
    }
    assert_eq!(args[..2], ["<-F>", "<none>"]);
    let end =
        ["<-i>", "</keys/id>", "<-p>", "<2222>", "<-->", "<ubuntu@2a01:4f8::1>", &format!("<{NVIDIA_SMI}>")];
    assert_eq!(args[args.len() - 7..], end);
    let env = file("env");
    let names: Vec<&str> = env.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(
        names.iter().all(|name| ["PATH", "LC_ALL", "PWD", "_", "SHLVL", "OLDPWD"].contains(name)),
        "{names:?}"
    );
}

#[tokio::test]
async fn fault_15_an_ssh_that_hangs_is_ended_at_the_deadline() {
    let (folder, ssh) = stand_in("echo $$ > \"$(dirname \"$0\")/pid\"; exec sleep 1000", 500);
    let late = ask(&ssh, &deployment("203.0.113.7", "ubuntu", None)).await.unwrap_err();
    assert_eq!(late, "ssh did not end within 0.5s and was ended");
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists(), "it still runs");
}

#[tokio::test]
async fn what_the_command_says_is_bounded_and_read_line_by_line() {
    for (script, expected) in [
        ("printf '0\\n97\\n'", Ok(vec![0.0, 97.0])),
        ("printf ' 3 \\r\\n\\n'", Ok(vec![3.0])),
        ("yes 0", Err("more than 16 KiB")),
        ("true", Err("says nothing")),
        ("echo 5; exit 9", Err("exit code 9")),
        ("echo 'ubuntu@203.0.113.7: Permission denied (publickey).' >&2; exit 255", Err("refuses the key")),
        ("echo 'ssh: connect to host 203.0.113.7 port 22: Strange' >&2; exit 255", Err("no SSH connection")),
        ("yes x >&2; exit 1", Err("exit code 1")),
        ("kill -9 $$", Err("by a signal")),
    ] {
        let (_folder, ssh) = stand_in(script, 10_000);
        let found = ask(&ssh, &deployment("203.0.113.7", "ubuntu", None)).await;
        match (&found, &expected) {
            (Err(why), Err(part)) => assert!(why.contains(part) && !why.contains("203.0"), "{script}: {why}"),
            _ => assert_eq!(found, expected.map_err(str::to_owned), "{script}"),
        }
    }
    let (_folder, ssh) = stand_in("printf '0\\n[N/A]\\n'", 10_000);
    let values = ask(&ssh, &deployment("203.0.113.7", "ubuntu", None)).await.unwrap();
    assert!(values[0] == 0.0 && values[1].is_nan());
    let ssh = Ssh { program: "/nonexistent/ssh".into(), ..ssh };
    assert!(
        ask(&ssh, &deployment("203.0.113.7", "ubuntu", None)).await.unwrap_err().contains("openssh-client")
    );
}
