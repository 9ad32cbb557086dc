//! The server's one clock: how long it runs, and what time of day that is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Read once when the server starts. From then on the time of day goes as the monotonic clock
/// goes, so a wall clock that is set changes nothing here.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    date: Date,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Clock { started: Instant::now(), date: Date(since_epoch.unwrap_or_default()) }
    }

    /// The time since the server started.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The time of day so long after the server started.
    pub(crate) fn date(&self, at: Duration) -> Date {
        self.date.plus(at)
    }
}

/// A time of day, as the time since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date(pub Duration);

impl Date {
    pub(crate) fn plus(self, time: Duration) -> Date {
        Date(self.0.saturating_add(time))
    }

    pub(crate) fn minus(self, time: Duration) -> Date {
        Date(self.0.saturating_sub(time))
    }

    /// The first whole second that is not before it: nobody is told to come too early.
    pub(crate) fn rounded_up(self) -> Date {
        Date(Duration::from_secs(whole_seconds(self.0)))
    }

    /// Whole seconds since 1970.
    pub(crate) fn epoch(self) -> u64 {
        self.0.as_secs()
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
    pub(crate) fn http(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (year, month, day) = self.calendar();
        let weekday = DAYS[(self.epoch() / 86_400 % 7) as usize];
        let month = MONTHS[month as usize - 1];
        let (hours, minutes, seconds) = self.of_day();
        format!("{weekday}, {day:02} {month} {year:04} {hours:02}:{minutes:02}:{seconds:02} GMT")
    }

    /// `1994-11-06T08:49:37Z` (RFC 3339).
    pub(crate) fn rfc3339(self) -> String {
        let (year, month, day) = self.calendar();
        let (hours, minutes, seconds) = self.of_day();
        format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
    }

    fn of_day(self) -> (u64, u64, u64) {
        let seconds = self.epoch() % 86_400;
        (seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }

    /// Year, month and day of the Gregorian calendar.
    fn calendar(self) -> (u64, u64, u64) {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut days = self.epoch() / 86_400;
        let mut year = 1970;
        while days >= 365 + u64::from(leap(year)) {
            days -= 365 + u64::from(leap(year));
            year += 1;
        }
        let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 1;
        for length in lengths {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        (year, month, days + 1)
    }
}

/// A time in seconds, rounded up.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_in_both_ways() {
        let table = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00Z"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT", "2000-02-28T23:59:59Z"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00Z"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT", "2026-12-31T23:59:59Z"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00Z"),
        ];
        for (epoch, http, rfc3339) in table {
            let date = Date(Duration::from_secs(epoch));
            assert_eq!((date.http().as_str(), date.rfc3339().as_str()), (http, rfc3339));
        }
    }

    #[test]
    fn a_part_of_a_second_counts_as_one_where_somebody_waits_for_it() {
        let date = Date(Duration::from_millis(1_001));
        assert_eq!((date.epoch(), date.rounded_up().epoch()), (1, 2));
        assert_eq!(whole_seconds(Duration::from_nanos(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
    }
}
