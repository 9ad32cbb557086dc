//! `testkit serve` and `testkit script FILE.json`: prints the base URL, runs until
//! standard input closes, then prints what it saw as JSON. Exit code 1: the log has failures.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::error::Error;
use std::io::Read;
use std::process::ExitCode;

use testkit::{Farewell, Identity, Options, Script, Server};

const USAGE: &str =
    "usage: testkit serve [--options JSON] [--port N] [--log] [--close-after N [--silently]] [FILES]
       testkit script FILE.json [FILES]
FILES, written before the URL is printed:
  --ca FILE                the certificate of the authority that signs for the servers of this process (PEM)
  --client FILE            a client certificate that they accept, then its key (PEM)
  --stranger FILE          one that they do not";

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

fn run(arguments: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    let server = match arguments {
        ["serve", flags @ ..] => Server::try_serve_with(options(flags)?)?,
        ["script", file, flags @ ..] => {
            let value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
            let script = Script::from_json(&value)?;
            let mut flags = flags.iter();
            while let Some(flag) = flags.next() {
                write(flag, flags.next().ok_or(USAGE)?)?;
            }
            Server::try_start(script)?
        }
        _ => return Err(USAGE.into()),
    };
    println!("{}", server.url(""));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let log = server.into_log();
    println!("{}", log.to_json());
    Ok(ExitCode::from(u8::from(!log.failures.is_empty())))
}

fn options(flags: &[&str]) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::default();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().ok_or(USAGE);
        match *flag {
            "--options" => options = Options::from_json(&serde_json::from_str(value()?)?)?,
            "--log" => options.keep_log = true,
            "--port" => options.listen.port = value()?.parse()?,
            "--close-after" => options.close_after = Some(value()?.parse()?),
            "--silently" => options.farewell = Farewell::Silent,
            flag => write(flag, value()?)?,
        }
    }
    Ok(options)
}

/// Writes what one of the flags of FILES asks for.
fn write(flag: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let both = |identity: Identity| identity.certificate + &identity.key;
    let text = match flag {
        "--ca" => testkit::ca_pem(),
        "--client" => both(testkit::client_identity()),
        "--stranger" => both(testkit::stranger_identity()),
        _ => return Err(USAGE.into()),
    };
    Ok(std::fs::write(file, text)?)
}
