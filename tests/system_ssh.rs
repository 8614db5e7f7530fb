//! Activity over SSH against a real sshd (Debian's openssh-server), with a stand-in for `nvidia-smi`.
//!
//! It must never be skipped silently: without the server it fails and says how to get it.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use spheron_watch::{
    activity::{Kind, Prober, ProberOptions, Reach, Source},
    clock::Clock,
    model::{
        Access, ActivitySource, Deployment, DeploymentId, InstanceType, Matcher, Reading, Status, TeamId,
        Time, Usd, activity::NVIDIA_SMI,
    },
};

/// An instance: sshd on a loopback port, for the user who runs the tests.
struct Instance {
    folder: tempfile::TempDir,
    sshd: Option<Child>,
    port: u16,
    user: String,
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .expect("no ssh-keygen: install openssh-client");
    assert!(made.success());
}

impl Instance {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["host", "id", "other"] {
            keygen(&folder.path().join(name));
        }
        fs::create_dir(folder.path().join("bin")).unwrap();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut instance = Self { folder, sshd: None, port, user: user.trim().to_owned() };
        instance.nvidia_smi("echo 0");
        instance.boot();
        instance
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn nvidia_smi(&self, script: &str) {
        let path = self.path("bin/nvidia-smi");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Starts sshd with the host key that lies there now.
    fn boot(&mut self) {
        self.halt();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             AuthorizedKeysFile {keys}\nPrintMotd no\nSetEnv PATH={bin}:/usr/bin:/bin\n",
            port = self.port,
            host = self.path("host").display(),
            keys = self.path("id.pub").display(),
            bin = self.path("bin").display(),
        );
        fs::write(self.path("sshd_config"), config).unwrap();
        // Where root starts sshd it drops its rights there; the package's service makes the folder at boot.
        let _ = fs::create_dir_all("/run/sshd");
        let log = fs::File::create(self.path("log")).unwrap();
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("no sshd: install openssh-server");
        self.sshd = Some(sshd);
        // It does not say when it listens, but a connection does.
        let listens = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        assert!(listens, "sshd does not listen: {}", fs::read_to_string(self.path("log")).unwrap());
    }

    fn halt(&mut self) {
        if let Some(mut sshd) = self.sshd.take() {
            sshd.kill().unwrap();
            sshd.wait().unwrap();
        }
    }

    fn deployment(&self, id: &str, gpu_count: u32) -> Deployment {
        Deployment {
            id: DeploymentId::new(id),
            created_at: Time::from_secs(1_790_000_000),
            name: "train".into(),
            team: TeamId::new("t1"),
            gpu_type: "H100".into(),
            gpu_count,
            provider: "spheron-ai".into(),
            region: "us-east-1".into(),
            instance_type: InstanceType::new("DEDICATED"),
            status: Status::Running,
            hourly_rate: Usd::ZERO,
            total_cost: Usd::ZERO,
            started_at: None,
            stopped_at: None,
            kubernetes: false,
            access: Access {
                ip: Some("127.0.0.1".into()),
                user: Some(self.user.as_str().into()),
                ssh_port: Some(self.port.to_string().into()),
            },
        }
    }

    async fn said_by(&self, key: &str, reach: Reach, deployment: &Deployment) -> Reading {
        let options = ProberOptions {
            ssh_deadline: Duration::from_secs(5),
            ..ProberOptions::new(self.path("known_hosts"))
        };
        let prober = Prober::new(options, Clock::system()).unwrap();
        let kind =
            Kind::Ssh { identity_file: self.path(key), command: NVIDIA_SMI.to_owned(), busy_above: 5.0 };
        let watch = ActivitySource {
            name: "smi".into(),
            every: Duration::from_secs(60),
            matcher: Matcher::default(),
            only_busy: false,
            settings: "".into(),
        };
        prober.measure(&Source { watch, kind, reach }, deployment).await.unwrap().reading
    }

    async fn said(&self, deployment: &Deployment) -> Reading {
        self.said_by("id", Reach::Private, deployment).await
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.halt();
    }
}

fn unknown(reading: Reading) -> String {
    match reading {
        Reading::Unknown(why) => why.to_string(),
        Reading::Busy | Reading::Idle => panic!("{reading:?}"),
    }
}

#[tokio::test]
async fn nvidia_smi_is_asked_by_a_real_ssh() {
    let instance = Instance::start();
    let two = instance.deployment("d1", 2);
    instance.nvidia_smi(
        "[ \"$*\" = '--query-gpu=utilization.gpu --format=csv,noheader,nounits' ] && printf '0\\n97\\n'",
    );
    let log = || fs::read_to_string(instance.path("log")).unwrap();
    assert_eq!(instance.said(&two).await, Reading::Busy, "{}", log());
    instance.nvidia_smi("printf '0\\n3\\n'");
    assert_eq!(instance.said(&two).await, Reading::Idle);
    instance.nvidia_smi("printf '0\\n[N/A]\\n'");
    assert_eq!(unknown(instance.said(&two).await), "one of its values cannot be one");
    instance.nvidia_smi("echo 0");
    assert_eq!(unknown(instance.said(&two).await), "1 of 2 GPUs are not measured");
    instance.nvidia_smi(
        "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
    );
    assert_eq!(unknown(instance.said(&two).await), "the command ends with exit code 9");
    fs::remove_file(instance.path("bin/nvidia-smi")).unwrap();
    let gone = unknown(instance.said(&two).await);
    assert!(gone == "the command is not there" || gone == "the command ends with exit code 127", "{gone}");
}

#[tokio::test]
async fn fault_78_its_own_machine_is_logged_in_to_only_by_permission() {
    let instance = Instance::start();
    let refused = unknown(instance.said_by("id", Reach::Public, &instance.deployment("d1", 1)).await);
    assert_eq!(refused, "the API gives a loopback address; allow_private = true permits those: not asked");
    let log = || fs::read_to_string(instance.path("log")).unwrap();
    assert!(!log().contains("Accepted"), "somebody logged in");
    assert_eq!(instance.said(&instance.deployment("d1", 1)).await, Reading::Idle);
    assert!(log().contains("Accepted"), "nobody logged in");
}

#[tokio::test]
async fn a_key_that_is_refused_and_an_instance_that_hangs_are_unknown() {
    let instance = Instance::start();
    let one = instance.deployment("d1", 1);
    let refused = unknown(instance.said_by("other", Reach::Private, &one).await);
    assert_eq!(refused, "the instance refuses the key; put the public half of identity_file there");
    fs::set_permissions(instance.path("id"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(unknown(instance.said(&one).await), "others can read identity_file; run `chmod 600` on it");
    fs::set_permissions(instance.path("id"), fs::Permissions::from_mode(0o600)).unwrap();
    instance.nvidia_smi("exec sleep 30");
    assert_eq!(unknown(instance.said(&one).await), "ssh did not end within 5s and was ended");
}

#[tokio::test]
async fn a_host_key_is_kept_for_the_deployment_and_not_for_the_address() {
    let mut instance = Instance::start();
    assert_eq!(instance.said(&instance.deployment("d1", 1)).await, Reading::Idle);
    let known = fs::read_to_string(instance.path("known_hosts")).unwrap();
    assert!(known.starts_with("d1.1790000000 ssh-ed25519 ") && !known.contains("127.0.0.1"), "{known}");

    for name in ["host", "host.pub"] {
        fs::remove_file(instance.path(name)).unwrap();
    }
    keygen(&instance.path("host"));
    instance.boot();
    let changed = unknown(instance.said(&instance.deployment("d1", 1)).await);
    assert_eq!(changed, "its host key is not the one that was first seen");
    assert_eq!(
        instance.said(&instance.deployment("d2", 1)).await,
        Reading::Idle,
        "another at the same address"
    );
}
