//! A test of this binary once more, in a process of its own: for what a process has only once, its environment and its limits.

use std::process::Command;

/// Longer than any such test takes; none outlives the one that waits for it.
const PATIENCE_S: &str = "300";

/// That test alone.
pub(crate) fn alone(test: &str) -> Command {
    let mut child = Command::new("timeout");
    child.arg(PATIENCE_S).arg(std::env::current_exe().unwrap()).args(["--exact", test]);
    child
}

/// The same, where 64 descriptors are all that there are.
pub(crate) fn with_64_descriptors(test: &str) -> Command {
    let mut child = Command::new("sh");
    child.args(["-c", r#"ulimit -n 64; exec timeout "$@""#, "sh", PATIENCE_S]);
    child.arg(std::env::current_exe().unwrap()).args(["--exact", test]);
    child
}

/// What went wrong in it. A test that was not found counts.
pub(crate) fn wrong(child: &mut Command) -> Option<String> {
    let ended = child.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let is_well = ended.status.success() && said.contains("1 passed");
    (!is_well)
        .then(|| format!("the child: {}\n{said}{}", ended.status, String::from_utf8_lossy(&ended.stderr)))
}
