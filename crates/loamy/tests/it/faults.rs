//! Every case of bad input and every fault, against the scripted server: `tests/faults/cells.toml` says what is right.
//!
//! Four things are asked of each cell: that the call ends in time, that as many outcomes come as rows went in, in order,
//! that the outcome is the right one, and how often the *server* saw the request.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the walls around the clock and the output are the engine's; this drives it from outside"
)]

mod again;
mod beside;
mod cell;
mod checks;
mod frames;
mod judge;
mod play;
mod profiles;
mod recorded;
mod scene;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cell::{Cell, Column, Runner, Transport};

/// The cases that the list must cover, each with a cell for every column over each of its transports.
const IDS: &[&str] = &[
    "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A13", "B1", "B2", "B3", "B4", "B5",
    "B6", "B8", "B9", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C11", "C13", "C14", "D1",
    "D2", "D3", "D4", "D5", "D6", "D7", "D8", "E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10",
    "E11", "E12", "E13", "E14", "E15", "E16", "E17", "E18", "E19", "E20", "E21", "F1", "F2", "F3", "F4",
    "F5", "F6", "F7", "F8", "F9", "F10", "F11", "F12", "F13", "F14", "F15", "G1", "G2", "G3", "G5", "G7",
    "H1", "H3", "H4", "H5", "H7", "H8", "H9", "H10", "H11", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P9",
];

/// How far apart in the list two cells are that are played one after the other: neighbours are alike, and those that wait
/// should go beside those that work. A prime, so that all have their turn.
const STRIDE: usize = 104_729;

/// Cells mostly wait, so many go on at once; more would make them late on two cores.
const AT_ONCE: usize = 16;

#[test]
fn the_list_has_every_case_in_every_column() {
    let list = cell::list();
    let mut variants: BTreeMap<(&str, &str, Transport), Vec<Column>> = BTreeMap::new();
    for cell in &list.cells {
        assert!(IDS.contains(&cell.id.as_str()), "{cell} bears an id that no case has");
        assert!(
            cell.na.as_ref().is_none_or(|reason| !reason.trim().is_empty()),
            "{cell} is n/a without a reason"
        );
        variants.entry((&cell.id, &cell.variant, cell.over)).or_default().push(cell.column);
    }
    for (variant, columns) in &variants {
        assert_eq!(columns[..], Column::ALL, "{variant:?}: each variant has one cell for each column");
    }
    for id in IDS {
        let cells = list.cells.iter().filter(|cell| cell.id == *id);
        assert!(cells.filter(|cell| cell.na.is_none()).count() > 0, "{id} has no cell that runs");
    }
    assert_eq!(list.cells.len(), list.count, "the list says how many cells it holds");
    assert_eq!(
        per_transport(&list.cells.iter().collect::<Vec<_>>()),
        list.over,
        "and how many over each transport"
    );
}

#[test]
fn every_cell_ends_in_time_in_order_as_it_should_and_is_sent_as_often_as_it_may() {
    let list = cell::list();
    keep_wanted_panics_quiet();
    let engine: Vec<&Cell> =
        list.cells.iter().filter(|cell| cell.runner == Runner::Engine && cell.is_chosen()).collect();
    let (next, ran, not_applicable) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= engine.len() {
                        break;
                    }
                    let cell = engine[turn * STRIDE % engine.len()];
                    if cell.na.is_some() {
                        not_applicable.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let wrong = catch_unwind(AssertUnwindSafe(|| play::play(cell)))
                        .unwrap_or_else(|panic| vec![format!("panicked: {}", text_of(&*panic))]);
                    ran.fetch_add(1, Ordering::Relaxed);
                    if !wrong.is_empty() {
                        let report = format!("{cell}\n    {}", wrong.join("\n    "));
                        failures.lock().unwrap().push(report);
                    }
                }
            });
        }
    });
    let (ran, not_applicable) = (ran.into_inner(), not_applicable.into_inner());
    let python = list.cells.iter().filter(|cell| cell.runner == Runner::Python).count();
    let over =
        per_transport(&engine).into_iter().map(|(over, count)| format!("{count} over {}", over.name()));
    println!(
        "faults: {ran} cells ran, {not_applicable} are not applicable ({}), {python} are Python's, of {}",
        over.collect::<Vec<_>>().join(", "),
        list.cells.len()
    );
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {ran} cells failed:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(ran + not_applicable, engine.len());
    if cell::chosen().is_none() {
        assert_eq!(ran + not_applicable, list.count - python, "a cell was left out");
    }
}

fn per_transport(cells: &[&Cell]) -> BTreeMap<Transport, usize> {
    let count = |over| cells.iter().filter(|cell| cell.over == over).count();
    Transport::ALL.into_iter().map(|over| (over, count(over))).collect()
}

/// A panic that a cell wants is no news; any other is printed as ever.
fn keep_wanted_panics_quiet() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !text_of(panic.payload()).contains("as the cell wants") {
            print(panic);
        }
    }));
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
