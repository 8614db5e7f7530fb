//! What the operator says by signal: stop, reload, tell me how you are.
//!
//! It must never leave a stuck process deaf: a second TERM or INT ends it at once, whatever it is doing.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::{consts, flag};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// A signal, by what it asks for. Several of one kind that come quickly may arrive as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: finish and end.
    Stop,
    /// HUP.
    Reload,
    /// USR1: log a summary of the state.
    Summary,
}

/// How many may wait for the receiver. One that finds no room waits in its handler, where more of its kind become one.
const QUEUE_MAX: usize = 4;

/// Handles signals from now on. Within a Tokio runtime. The exit code of the second TERM or INT is 1.
pub fn listen() -> io::Result<mpsc::Receiver<Signal>> {
    let stopping = Arc::new(AtomicBool::new(false));
    for number in [consts::SIGTERM, consts::SIGINT] {
        // In this order: the first signal finds the flag unset, and sets it for the second.
        flag::register_conditional_shutdown(number, 1, Arc::clone(&stopping))?;
        flag::register(number, Arc::clone(&stopping))?;
    }
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    for (kind, means) in [
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::interrupt(), Signal::Stop),
        (SignalKind::hangup(), Signal::Reload),
        (SignalKind::user_defined1(), Signal::Summary),
    ] {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(
            async move { while signals.recv().await.is_some() && sender.send(means).await.is_ok() {} },
        );
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        process::{Command, Stdio},
        time::Duration,
    };

    use rustix::process::{Pid, Signal as Number, kill_process};

    use super::*;

    const CHILD: &str = "SPHERON_WATCH_TEST_SIGNALS_CHILD";

    /// Says each signal on a line. Then, told to stop, blocks for good; but never longer than a lost test should last.
    fn child() -> ! {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_secs(30));
            std::process::exit(3);
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut signals = listen().unwrap();
            // Not by println!, which the test harness would swallow.
            let say = |line: &str| writeln!(io::stdout(), "\n{line}").unwrap();
            say("ready");
            while let Some(signal) = signals.recv().await {
                say(&format!("{signal:?}"));
                if signal == Signal::Stop {
                    loop {
                        std::thread::park();
                    }
                }
            }
        });
        unreachable!("the channel stays open");
    }

    #[test]
    fn each_signal_is_heard_and_the_second_term_ends_a_blocked_process() {
        if std::env::var_os(CHILD).is_some() {
            child();
        }
        for (first, second) in [(Number::TERM, Number::INT), (Number::INT, Number::TERM)] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "--nocapture",
                    "signals::tests::each_signal_is_heard_and_the_second_term_ends_a_blocked_process",
                ])
                .env(CHILD, "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let pid = Pid::from_child(&child);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut wait_for = |line: &str| assert!(lines.any(|heard| heard.unwrap() == line), "{line}");
            wait_for("ready");
            for (number, line) in [(Number::HUP, "Reload"), (Number::USR1, "Summary"), (first, "Stop")] {
                kill_process(pid, number).unwrap();
                wait_for(line);
            }
            kill_process(pid, second).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(1));
        }
    }
}
