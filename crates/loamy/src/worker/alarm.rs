//! Wakes a thread at a moment, as exactly as the system can. The runtime's own timer counts in milliseconds and rounds up: of
//! rows that are due every 10 ms, each may come a tenth of that too late, and without a burst what is late is lost.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

use crate::clock::now;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: linux::Timer,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready once the moment has come; until then the task is woken for it.
    pub(super) fn poll(&mut self, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        #[cfg(target_os = "linux")]
        if let Some(polled) = self.timer.poll(at, context) {
            return polled;
        }
        loop {
            if at <= now() {
                return Poll::Ready(());
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
            if sleep.deadline().into_std() != at || sleep.is_elapsed() {
                sleep.as_mut().reset(at.into());
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;
    use std::task::{Context, Poll};
    use std::time::{Duration, Instant};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    use crate::clock::now;

    /// A timer of the kernel's, counting in nanoseconds.
    #[derive(Default)]
    pub(super) struct Timer {
        descriptor: Option<AsyncFd<OwnedFd>>,
        set_to: Option<Instant>,
    }

    impl Timer {
        /// None where there is no descriptor for it.
        pub(super) fn poll(&mut self, at: Instant, context: &mut Context<'_>) -> Option<Poll<()>> {
            loop {
                let left = at.saturating_duration_since(now());
                if left.is_zero() {
                    return Some(Poll::Ready(()));
                }
                let descriptor = match &self.descriptor {
                    Some(descriptor) => descriptor,
                    None => self.descriptor.insert(made()?),
                };
                if self.set_to != Some(at) {
                    timerfd_settime(descriptor.get_ref(), TimerfdTimerFlags::empty(), &once(left)).ok()?;
                    self.set_to = Some(at);
                }
                let Poll::Ready(ready) = descriptor.poll_read_ready(context) else {
                    return Some(Poll::Pending);
                };
                // It tells how often it rang, which nobody wants to know; read, it is silent again. What was set anew has nothing to
                // tell: then it is an older ring that was heard.
                if rustix::io::read(descriptor.get_ref(), &mut [0; 8]).is_ok() {
                    self.set_to = None;
                }
                ready.ok()?.clear_ready();
            }
        }
    }

    #[expect(
        deprecated,
        reason = "unsound only for types whose descriptor may change; this one is owned and stays"
    )]
    fn made() -> Option<AsyncFd<OwnedFd>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        AsyncFd::with_interest(descriptor, tokio::io::Interest::READABLE).ok()
    }

    fn once(after: Duration) -> Itimerspec {
        let it_value = Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: after.subsec_nanos().into(),
        };
        Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value }
    }
}
