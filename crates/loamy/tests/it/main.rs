//! The engine from outside: against the scripted server, another codec, and its own source.

mod child;
mod codec_against_hyper;
mod connections;
mod doors;
mod expectations;
mod faults;
mod hedging;
mod interrupts;
mod journal;
mod journal_crash;
mod journal_files;
mod journal_torture;
mod journaled;
mod limits_of_time;
mod polite;
mod retrying;
mod scheduling;
mod side_by_side;
mod walls;
mod wire;
