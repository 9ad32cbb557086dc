//! The steps of a server said in frames of HTTP/2, where they say nothing that only HTTP/1.1 has.

/// How often a request is answered where a script goes back to its beginning: more often than any cell sends.
const AGAIN: usize = 16;

/// Reads a request and says that all is well.
const ANSWER: [&str; 2] = ["h2 read request", r#"h2 answer "ok""#];

/// The steps with `{well}`, `{well N}` and `{N times} STEP | STEP` written out.
pub(crate) fn written_out(lines: &[String]) -> Vec<String> {
    let mut written = Vec::new();
    for line in lines {
        let well = line.strip_prefix("{well").and_then(|rest| rest.strip_suffix('}'));
        match well {
            Some("") => {
                written.extend(ANSWER.repeat(AGAIN).into_iter().map(str::to_owned));
                written.push("h2 drain".to_owned());
            }
            Some(count) => {
                let count = count.trim().parse().unwrap_or_else(|_| panic!("{line:?} has no number"));
                written.extend(ANSWER.repeat(count).into_iter().map(str::to_owned));
            }
            None => match repeated(line) {
                Some((count, steps)) => {
                    let steps: Vec<String> = steps.split(" | ").map(str::to_owned).collect();
                    written.extend(std::iter::repeat_n(steps, count).flatten());
                }
                None => written.push(line.clone()),
            },
        }
    }
    written
}

fn repeated(line: &str) -> Option<(usize, &str)> {
    let (count, steps) = line.strip_prefix('{')?.split_once(" times} ")?;
    Some((count.parse().ok()?, steps))
}

/// The same in frames: requests read, whole responses sent, and from the beginning again.
///
/// # Panics
/// When a step has no frame that says the same; the cell then has to say what happens.
pub(crate) fn translated(lines: &[String]) -> Vec<String> {
    let mut translated = Vec::new();
    for (number, connection) in lines.split(|line| line == "connection").enumerate() {
        if number > 0 {
            translated.push("connection".to_owned());
        }
        translated.push("h2 preface".to_owned());
        let began = translated.len();
        for line in connection {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("read", "") => translated.push("h2 read request".to_owned()),
                ("send", response) => translated.extend(in_frames(response)),
                ("wait", time) => translated.push(format!("h2 wait {time}")),
                ("drain" | "hold", "") => translated.push("h2 drain".to_owned()),
                ("close" | "reset", "") => translated.push(line.clone()),
                ("again", "") => {
                    let round = translated[began..].to_vec();
                    translated.extend(std::iter::repeat_n(round, AGAIN).flatten());
                    translated.push("h2 drain".to_owned());
                }
                _ => panic!("{line:?} cannot be said in frames; the case needs `h2`"),
            }
        }
    }
    translated
}

/// A whole response, as a step of HTTP/1.1 writes it.
fn in_frames(response: &str) -> Vec<String> {
    let (head, body) =
        response.split_once(r"\r\n\r\n").unwrap_or_else(|| panic!("{response:?} is not whole"));
    let mut lines = head.split(r"\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let mut headers =
        format!("h2 headers status={}", status.unwrap_or_else(|| panic!("{head:?} has no status")));
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?} is no field"));
        let name = name.to_ascii_lowercase();
        assert_ne!(name, "transfer-encoding", "{response:?} is framed as only HTTP/1.1 can");
        if name != "connection" {
            headers += &format!(r#" {name}="{}""#, value.trim().replace('"', r"\x22"));
        }
    }
    match body {
        "" => vec![headers + " end"],
        body => vec![headers, format!(r#"h2 data "{}" end"#, body.replace('"', r"\x22"))],
    }
}
