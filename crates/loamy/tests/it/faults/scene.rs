//! The words of the list that stand for what is known only when a cell is played.

use std::net::{IpAddr, SocketAddr};

use testkit::{FullBacklog, refused_port};

use super::cell::Transport;

/// What stands for itself in the list: addresses that are known only now.
pub(super) struct Scene {
    pub(super) over: Transport,
    pub(super) host: IpAddr,
    pub(super) port: u16,
    pub(super) other: u16,
    pub(super) backlog: Option<FullBacklog>,
}

impl Scene {
    pub(super) fn fill(&self, text: &str) -> String {
        let server = SocketAddr::new(self.host, self.port).to_string();
        let mut filled = text
            .replace("{server}", &server)
            .replace("{scheme}", self.over.scheme())
            .replace("{port}", &self.port.to_string())
            .replace("{other}", &self.other.to_string());
        if filled.contains("{refused}") {
            filled = filled.replace("{refused}", &refused_port().to_string());
        }
        if let Some(backlog) = &self.backlog {
            filled = filled.replace("{backlog}", &backlog.addr().port().to_string());
        }
        while let Some((before, what, count, after)) = repeated(&filled) {
            let fields = || (0..count).map(|n| format!(" f{n:04}=v")).collect();
            let many = if what == "fields" { fields() } else { what.repeat(count) };
            filled = format!("{before}{many}{after}");
        }
        filled
    }
}

/// The first `{what*N}` of a text, and what is around it.
fn repeated(text: &str) -> Option<(&str, &str, usize, &str)> {
    let (start, star) = text.match_indices('*').find_map(|(star, _)| {
        let start = text[..star].rfind('{')?;
        text[start..star].chars().skip(1).all(char::is_alphanumeric).then_some((start, star))
    })?;
    let (count, after) = text[star + 1..].split_once('}')?;
    Some((&text[..start], &text[start + 1..star], count.parse().ok()?, after))
}
