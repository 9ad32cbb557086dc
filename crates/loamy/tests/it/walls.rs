//! Who may import whom: the picture of ARCHITECTURE.md, held against the `crate::` paths of the engine's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Plain values: the nouns and what they are made of.
const TYPES: &[&str] = &[
    "error", "framing", "headers", "kind", "mask", "outcome", "policy", "progress", "rate", "request",
    "response", "tls",
];

/// Functions of values.
const PURE: &[&str] = &[
    "adaptive",
    "backoff",
    "breaker",
    "decode",
    "duplicates",
    "governor",
    "growth",
    "hint",
    "idempotency",
    "limiter",
    "quotas",
    "redirect",
    "retry",
    "target",
];

/// Those that only the calls of a user reach.
const TOP: &[&str] = &["client", "memory", "run", "runtime", "stream"];

/// What only tests have: a room, and a file of one. They may import anything.
const FOR_TESTS: &[&str] = &["simulation", "simulated", "drill"];

/// What each room may import besides `TYPES` and itself. `PURE` stands for all of them.
const MAY_IMPORT: &[(&str, &[&[&str]])] = &[
    ("clock", &[]),
    ("job", &[PURE]),
    ("gate", &[PURE, &["job"]]),
    ("plan", &[PURE, &["gate", "job"]]),
    ("ledger", &[PURE, &["job"]]),
    ("batch", &[PURE, &["gate", "job", "plan", "ledger"]]),
    // A thread of its own, which knows of the batch only what the ledger's port says.
    ("journal", &[&["clock", "job", "ledger"]]),
    // A connection is made to an origin, which is a value of `target`; what a person can do about it is said in `hint`.
    ("transport", &[&["target", "hint", "growth", "clock"]]),
    ("exchange", &[PURE, &["job", "transport"]]),
    // Where a worker meets a batch and its owner.
    ("seat", &[&["batch", "exchange"]]),
    // What a worker holds stands between a single exchange and the worker.
    ("pool", &[PURE, &["job", "transport", "exchange", "seat"]]),
    ("worker", &[PURE, &["clock", "job", "transport", "exchange", "seat", "pool", "batch"]]),
];

fn manifest() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory.
fn rust_files(below: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(below).unwrap_or_else(|error| panic!("{}: {error}", below.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The text of each room without its comments and its tests.
fn rooms() -> BTreeMap<String, String> {
    let source = manifest().join("src");
    let mut rooms: BTreeMap<String, String> = BTreeMap::new();
    for file in rust_files(&source) {
        let below = file.strip_prefix(&source).unwrap();
        let room = below
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        let stem = below.file_stem().unwrap().to_str().unwrap();
        if stem == "tests" || FOR_TESTS.contains(&stem) || FOR_TESTS.contains(&&*room) {
            continue;
        }
        rooms.entry(room).or_default().push_str(&code(&fs::read_to_string(&file).unwrap()));
    }
    rooms
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The first name of each path that begins with `crate::`, groups in braces included.
fn names_from_crate(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, path) in code.match_indices("crate::").map(|(at, found)| (at, &code[at + found.len()..])) {
        let Some(group) = path.strip_prefix('{') else {
            names.insert(name(path));
            continue;
        };
        let mut depth = 0;
        let mut begin = true;
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begin = true,
                _ if begin && !character.is_whitespace() => {
                    names.insert(name(&group[at..]));
                    begin = false;
                }
                _ => {}
            }
        }
    }
    names.remove("");
    names
}

fn name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Which room the public names of lib.rs come from.
fn homes(lib: &str) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for reexport in lib.split("pub use ").skip(1) {
        let reexport = reexport.split(';').next().unwrap();
        let room = name(reexport);
        let names = reexport.rsplit("::").next().unwrap().trim_matches(['{', '}']);
        for own in names.split(',').map(str::trim).filter(|own| !own.is_empty()) {
            homes.insert(own.to_owned(), room.clone());
        }
    }
    homes
}

/// Rooms without I/O and clock; `now` is an argument there.
fn that_decide() -> impl Iterator<Item = &'static str> {
    PURE.iter().chain(&["batch", "gate", "job", "ledger", "plan"]).copied()
}

fn may_import(room: &str) -> Option<BTreeSet<&'static str>> {
    let besides: Vec<&str> = match room {
        _ if TYPES.contains(&room) => Vec::new(),
        _ if PURE.contains(&room) => PURE.to_vec(),
        _ => MAY_IMPORT.iter().find(|(own, _)| *own == room)?.1.concat(),
    };
    Some(TYPES.iter().copied().chain(besides).collect())
}

#[test]
fn no_room_imports_one_that_stands_above_or_beside_it() {
    let rooms = rooms();
    let homes = homes(&rooms["lib"]);
    let mut wrong = Vec::new();
    for (room, code) in &rooms {
        if room == "lib" || TOP.contains(&&**room) {
            continue;
        }
        let Some(allowed) = may_import(room) else {
            wrong.push(format!("{room} has no place in the picture"));
            continue;
        };
        for name in names_from_crate(code) {
            let home = homes.get(&name).unwrap_or(&name);
            let is_room = rooms.contains_key(home);
            if is_room && home != room && !allowed.contains(&**home) {
                wrong.push(format!("{room} imports {home}"));
            }
            assert!(is_room || homes.contains_key(&name), "{room} names crate::{name}, which is no room");
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "the picture does not allow:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_room_of_the_picture_exists() {
    let rooms = rooms();
    let pictured = TYPES.iter().chain(PURE).chain(TOP).chain(MAY_IMPORT.iter().map(|(room, _)| room));
    for room in pictured.copied().chain(that_decide()) {
        assert!(rooms.contains_key(room), "there is no room {room}");
    }
}

#[test]
fn rooms_that_decide_have_no_clock_no_runtime_and_no_network() {
    let rooms = rooms();
    for room in that_decide() {
        for word in ["Instant::now", "tokio", "std::net::Tcp", "std::thread", "std::fs", "clock::"] {
            assert!(!rooms[room].contains(word), "{room} mentions {word}");
        }
    }
}

#[test]
fn the_engine_knows_no_wall_clock_no_python_and_no_arrow() {
    for (room, code) in rooms() {
        for word in ["SystemTime", "pyo3", "arrow::", "use arrow"] {
            assert!(!code.contains(word), "{room} mentions {word}");
        }
    }
    let cargo: toml::Table = fs::read_to_string(manifest().join("Cargo.toml")).unwrap().parse().unwrap();
    for dependency in cargo["dependencies"].as_table().unwrap().keys() {
        assert!(
            !dependency.contains("pyo3") && !dependency.contains("arrow"),
            "the engine depends on {dependency}"
        );
    }
}

#[test]
fn no_room_is_a_drawer_for_what_has_no_home() {
    let crates = manifest().join("..");
    let mut looked_at = 0;
    for own in ["loamy", "loamy-python", "testkit"] {
        for file in rust_files(&crates.join(own).join("src")) {
            looked_at += 1;
            for part in file.strip_prefix(&crates).unwrap().components() {
                let part = part.as_os_str().to_str().unwrap().trim_end_matches(".rs");
                assert!(
                    !["util", "utils", "misc", "common", "shared", "helpers"].contains(&part),
                    "{}",
                    file.display()
                );
            }
        }
    }
    assert!(looked_at > 40, "only {looked_at} files were looked at");
}

#[test]
fn the_reader_of_imports_finds_every_form_of_path() {
    let text = "
        use crate::batch::{self, Claim};
        use crate::{Error, transport::{Wire, h1}, decode};
        pub(crate) use crate::plan::Plan;
        // use crate::comment;
        fn f() { crate::mask::MaskedUrl(x); g::<crate::gate::Gate>() }
        use crate::{
            Kind,
            retry,
        };
        #[cfg(test)]
mod tests {
        use crate::only_in_tests;
    ";
    let names = names_from_crate(&code(text));
    let expected = ["Error", "Kind", "batch", "decode", "gate", "mask", "plan", "retry", "transport"];
    assert!(names.iter().eq(expected), "{names:?}");
    let homes = homes("pub use a::One;\npub use b::{Two, Three};\npub use c::d::{Four};");
    let homes: Vec<_> = homes.iter().map(|(name, room)| (&**name, &**room)).collect();
    assert_eq!(homes, [("Four", "c"), ("One", "a"), ("Three", "b"), ("Two", "b")]);
}
