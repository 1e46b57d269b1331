//! `loadgen ceiling`, as a program: whole or not at all, and not that of the open-file limit.

use std::fs;
use std::process::{Command, Stdio};

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

#[test]
fn a_ceiling_that_is_interrupted_is_not_told() {
    let args = ["ceiling", "--quiet", "--subscribers", "3", "--duration", "60s", "--warmup", "0s"];
    let mut command = Command::new(LOADGEN);
    let child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // The bare loop is started after signals are caught.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    while fs::read_to_string(&children).expect("it runs").is_empty() {
        std::thread::yield_now();
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("there is a kill");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(sent.success() && output.status.code() == Some(130) && output.stdout.is_empty(), "{said}");
    assert!(said.contains("the ceiling was not measured"), "{said}");
}

#[test]
fn the_bare_loop_has_room_for_more_sockets_than_the_soft_limit() {
    let measure = format!("ulimit -Sn 64; exec '{LOADGEN}' ceiling -q --subscribers 80 --duration 200ms --warmup 0s");
    let output = Command::new("sh").args(["-c", &measure]).output().expect("there is a shell");
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("to 80 sockets"), "{told}\n{said}");
}
