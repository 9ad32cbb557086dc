//! `testkit serve` and `testkit script FILE.json`: prints the base URL, runs until
//! standard input closes, then prints what it saw as JSON. Exit code 1: the log has failures.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::io::Read;
use std::process::ExitCode;

use testkit::{Farewell, Options, Script, Server};

const USAGE: &str = "usage: testkit serve [--port N] [--log] [--close-after N [--silently]]
       testkit script FILE.json";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testkit: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let server = match arguments {
        ["serve", flags @ ..] => Server::try_serve_with(options(flags)?)?,
        ["script", file] => {
            let value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
            Server::try_start(Script::from_json(&value)?)?
        }
        _ => return Err(USAGE.into()),
    };
    println!("{}", server.url(""));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let log = server.into_log();
    println!("{}", log.to_json());
    Ok(ExitCode::from(u8::from(!log.failures.is_empty())))
}

fn options(flags: &[&str]) -> Result<Options, Box<dyn std::error::Error>> {
    let mut options = Options::default();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().ok_or(USAGE);
        match *flag {
            "--log" => options.keep_log = true,
            "--port" => options.listen.port = value()?.parse()?,
            "--close-after" => options.close_after = Some(value()?.parse()?),
            "--silently" => options.farewell = Farewell::Silent,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}
