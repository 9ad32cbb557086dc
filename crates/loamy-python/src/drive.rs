//! A batch driven from Python: the one place that attaches to the interpreter and lets go of it.
//!
//! Rows go in and outcomes come out in slices while the network works on threads that never touch Python. Between the
//! slices, signal handlers run; whatever one raises stops the batch at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use loamy::{Client, Outcome, Run};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple, PyType};

use crate::collector::HeldOff;
use crate::convert::{self, Terms};
use crate::door::Door;
use crate::ending::{self, Call};
use crate::failure::{self, again};
use crate::recording;
use crate::rows::{Gathered, Kept, Rows};
use crate::watch::{self, Ended};

/// Rows made into requests or objects before other Python threads and signal handlers get their turn.
const SLICE_ROWS: usize = 4096;
/// The same as a time.
const SLICE_TIME: Duration = Duration::from_millis(10);
/// Rows between two looks at the clock.
const LOOK: usize = 64;
/// How long a wait lasts at most before signal handlers run.
const WAIT: Duration = Duration::from_millis(50);
/// Outcomes worth waking up for.
const WORTH: usize = 512;
/// How often progress is told and pauses are looked for.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A batch of rows under way.
#[pyclass(frozen, module = "loamy._loamy", name = "Batch", weakref)]
pub(crate) struct Batch {
    run: Arc<Run>,
    door: Door,
    terms: Terms,
    /// Where the call stands in the user's code, if that cannot be seen from the thread that reads the rows.
    place: Option<Py<PyAny>>,
    rows: Mutex<Rows>,
    /// Indexes that the responses bear instead of their rows' own, where rows are sent again.
    places: Mutex<Vec<usize>>,
    /// Is told of each row that ended, whatever the door makes of it.
    watch: Option<Py<PyAny>>,
    looked: Mutex<Instant>,
    process: u32,
}

#[pymethods]
impl Batch {
    #[new]
    #[pyo3(signature = (
        policy, door="front", response_class=None, first_failure_ends=false, place=None, watch=None, journal=None,
        carried=None
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "all but the first have names at the one place that gives them"
    )]
    fn new(
        py: Python<'_>,
        policy: &Bound<'_, PyAny>,
        door: &str,
        response_class: Option<Py<PyType>>,
        first_failure_ends: bool,
        place: Option<Py<PyAny>>,
        watch: Option<Py<PyAny>>,
        journal: Option<recording::Wanted>,
        carried: Option<Vec<(String, String)>>,
    ) -> PyResult<Self> {
        if ending::is_near() {
            return Err(PyRuntimeError::new_err(
                "the interpreter is shutting down; nothing can be sent any more",
            ));
        }
        let door = Door::new(door, response_class, first_failure_ends)?;
        let mut terms = convert::terms(policy)?;
        terms.carry(&carried.unwrap_or_default());
        if !terms.policy().tls.is_verified() {
            warn_unverified(py, place.as_ref())?;
        }
        // Attached: nobody waits for this thread yet, and one that comes back to an interpreter that is going away would take
        // the process with it.
        let client = match Client::shared() {
            Ok(client) => client,
            Err(error) => {
                let nothing = py.None().into_bound(py);
                return Err(PyErr::from_value(failure::exception(py, &error, 0, &nothing, None)?));
            }
        };
        let run = Arc::new(match journal {
            None => client.begin(terms.policy()),
            Some(wanted) => recording::begin(py, &client, terms.policy(), wanted)?,
        });
        ending::watch(&run);
        Ok(Self {
            run,
            door,
            terms,
            place,
            rows: Mutex::default(),
            places: Mutex::default(),
            watch,
            looked: Mutex::new(now()),
            process: std::process::id(),
        })
    }

    /// Sends the rows and returns what came of each, in order.
    /// Each front-door response gets its index from `places`, where given. `tell` gets the numbers of `progress`, `each` lists of
    /// what has ended.
    #[pyo3(signature = (rows, tell=None, places=None, each=None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyList>,
        tell: Option<&Bound<'py, PyAny>>,
        places: Option<Vec<usize>>,
        each: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let _call = self.enter()?;
        if let Some(places) = places {
            *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
        }
        let mut gathered =
            Gathered { made: (0..rows.len()).map(|_| None).collect(), outstanding: rows.len() };
        let mut admitted = 0;
        let stopped = self.through(py, rows, &mut admitted, &mut gathered, Told { tell, each }).err();
        let Some(error) = stopped else {
            let made = gathered.into_list(py)?;
            recording::end(py, &self.run, Some(&made))?;
            return self.result(made);
        };
        self.stop(py);
        self.run.close();
        let unread = self.fill_unread(py, rows, admitted, &mut gathered);
        let later = self.drain(py, &mut |(index, made)| gathered.put(index, made)).or(unread.err());
        // What interrupts the call is told, whatever became of its record; the next run finds that out.
        let _ = recording::end(py, &self.run, None);
        Err(interrupted(py, weightier(py, error, later), gathered.into_list(py)?))
    }

    /// Adds rows; they are on their way when this returns.
    fn admit(&self, py: Python<'_>, rows: &Bound<'_, PyList>) -> PyResult<()> {
        let _call = self.enter()?;
        let (mut admitted, total) = (0, rows.len());
        while admitted < total && self.slice_in(py, rows, &mut admitted, total)? {
            py.check_signals()?;
        }
        Ok(())
    }

    /// Says that no more rows will come.
    fn close(&self) {
        if self.is_own() {
            self.run.close();
        }
    }

    /// Waits until `want` rows have ended, or all, or the seconds have passed; returns all that have, as they ended.
    fn take<'py>(&self, py: Python<'py>, want: usize, seconds: f64) -> PyResult<Bound<'py, PyList>> {
        let _call = self.enter()?;
        let end = now()
            + Duration::try_from_secs_f64(seconds.max(0.0))
                .unwrap_or(Duration::MAX)
                .min(Duration::from_secs(1 << 30));
        let mut gathered = Gathered { made: Vec::new(), outstanding: usize::MAX };
        let waited = loop {
            let left = end.saturating_duration_since(now()).min(WAIT);
            let missing = want.saturating_sub(gathered.made.len());
            let step = self.step(py, missing, left, &mut |made| gathered.made.push(Some(made.1)));
            let step = step.and_then(|()| self.look_up(py, None));
            let step = if self.run.is_finished() { step.and_then(|()| self.warn(py)) } else { step };
            if step.is_err() || gathered.made.len() >= want || self.run.is_finished() || now() >= end {
                break step;
            }
        };
        let Err(error) = waited else {
            return gathered.into_list(py);
        };
        self.stop(py);
        self.run.close();
        let later = self.drain(py, &mut |made| gathered.made.push(Some(made.1)));
        Err(interrupted(py, weightier(py, error, later), gathered.into_list(py)?))
    }

    /// Ends the batch: rows in flight as `cancelled`, waiting ones as `not_sent`. No byte is written after it returns.
    fn cancel(&self, py: Python<'_>) {
        if self.is_own() {
            self.stop(py);
        }
    }

    /// Ends the journal, where there is one: complete if every row has its outcome, else left to a later run.
    fn end_journal(&self, py: Python<'_>) -> PyResult<()> {
        let _call = self.enter()?;
        recording::end(py, &self.run, None)
    }

    /// Whether there is nothing more to do: no more rows will come and every outcome was taken, or the batch is another process's.
    #[getter]
    fn finished(&self) -> bool {
        !self.is_own() || self.run.is_finished()
    }

    /// Rows waiting, in flight, settled, settled with an error, and waiting to be sent again; pairs of a paused origin and the
    /// seconds left; the seconds that what waits takes at the least.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Standing<'py>> {
        let _call = self.enter()?;
        let (progress, outlook) = (self.run.progress(), self.run.outlook());
        let paused = outlook.paused.iter().map(|pause| (pause.origin.as_str(), pause.left.as_secs_f64()));
        let paused = PyTuple::new(py, paused.collect::<Vec<_>>())?;
        let loamy::Progress { waiting, in_flight, settled, failed, retrying } = progress;
        Ok((waiting, in_flight, settled, failed, retrying, paused, outlook.at_least.as_secs_f64()))
    }
}

/// What `progress` returns.
type Standing<'py> = (usize, usize, usize, usize, usize, Bound<'py, PyTuple>, f64);

/// Who wants to hear of a call while it goes on.
#[derive(Clone, Copy)]
struct Told<'a, 'py> {
    tell: Option<&'a Bound<'py, PyAny>>,
    each: Option<&'a Bound<'py, PyAny>>,
}

impl Batch {
    fn through<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyList>,
        admitted: &mut usize,
        gathered: &mut Gathered,
        told: Told<'_, 'py>,
    ) -> PyResult<()> {
        let total = gathered.made.len();
        let mut forward = |want: usize, at_most: Duration| -> PyResult<usize> {
            let mut fresh = Vec::new();
            let step = self.step(py, want, at_most, &mut |(index, made)| {
                if told.each.is_some() {
                    fresh.push(made.clone_ref(py));
                }
                gathered.put(index, made);
            });
            step?;
            if let Some(each) = told.each {
                // A few at a time, so that the end of the process does not wait for all of them.
                for few in fresh.chunks(LOOK) {
                    ending::hook(py, || each.call1((PyList::new(py, few)?,)))?;
                }
            }
            self.look_up(py, told.tell)?;
            Ok(gathered.outstanding)
        };
        while *admitted < total {
            // A list that another thread shortens meanwhile has no more rows to give.
            if !self.slice_in(py, rows, admitted, total)? {
                return Err(PyRuntimeError::new_err(
                    "the list of rows became shorter while it was being sent",
                ));
            }
            forward(0, Duration::ZERO)?;
            while self.run.is_fed() {
                forward(WORTH, WAIT)?;
            }
        }
        self.run.close();
        let mut outstanding = forward(0, Duration::ZERO)?;
        while outstanding > 0 {
            outstanding = forward(outstanding.min(WORTH), WAIT)?;
        }
        self.warn(py)?;
        match told.tell {
            Some(tell) => self.tell(py, tell),
            None => Ok(()),
        }
    }

    /// What is due between two slices: signal handlers, and now and then a word on how it goes.
    fn look_up(&self, py: Python<'_>, tell: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        py.check_signals()?;
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if now().duration_since(*looked) < LOOK_UP {
                return Ok(());
            }
            *looked = now();
        }
        self.warn(py)?;
        match tell {
            Some(tell) => self.tell(py, tell),
            None => Ok(()),
        }
    }

    fn tell(&self, py: Python<'_>, tell: &Bound<'_, PyAny>) -> PyResult<()> {
        let progress = self.progress(py)?;
        ending::hook(py, || tell.call1(progress)).map(drop)
    }

    /// Says of each origin that is paused, or whose budget of retries is used up, that it is, once.
    fn warn(&self, py: Python<'_>) -> PyResult<()> {
        let longest = self.terms.policy().max_pause.as_secs_f64();
        for pause in self.run.take_pauses() {
            let told = (pause.origin, pause.left.as_secs_f64(), longest);
            py.import("loamy.progress")?.call_method1("warn_of_pause", told)?;
        }
        if self.terms.policy().retries > 0 {
            for origin in self.run.take_spent_budgets() {
                py.import("loamy.progress")?.call_method1("warn_of_budget", (origin,))?;
            }
        }
        Ok(())
    }

    /// Reads a slice of rows, of the first `total`, and gives it to the engine; false when there was none left.
    fn slice_in(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyList>,
        admitted: &mut usize,
        total: usize,
    ) -> PyResult<bool> {
        let began = now();
        let held = HeldOff::new(py);
        // Rows that are added to the list meanwhile are none of this call's.
        let room = total.saturating_sub(*admitted).min(SLICE_ROWS);
        let mut requests = Vec::with_capacity(room);
        let mut kept = Vec::with_capacity(room);
        while requests.len() < room {
            let Ok(row) = rows.get_item(*admitted + requests.len()) else {
                break;
            };
            let read = convert::row(&row, &self.terms)?;
            requests.push(read.request);
            kept.push(Kept { row: row.unbind(), tag: read.tag });
            if requests.len().is_multiple_of(LOOK) && now().duration_since(began) > SLICE_TIME {
                break;
            }
        }
        drop(held);
        if self.terms.take_unverified() {
            warn_unverified(py, self.place.as_ref())?;
        }
        let count = requests.len();
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, request) in places.iter().skip(*admitted).zip(&mut requests) {
            self.terms.policy().idempotency.give_key(request, *place);
        }
        drop(places);
        *admitted += count;
        let mut own = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        kept.into_iter().for_each(|kept| own.push(kept));
        drop(own);
        py.detach(|| self.run.admit(requests));
        Ok(count > 0)
    }

    /// Gives the rows that a stopped batch did not come to read their end.
    fn fill_unread(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyList>,
        from: usize,
        gathered: &mut Gathered,
    ) -> PyResult<()> {
        let _held = HeldOff::new(py);
        let mut broken = None;
        let shared = again(&mut broken, || failure::unread_together(py))?;
        for index in from..gathered.made.len() {
            let row = rows.get_item(index).unwrap_or_else(|_| py.None().into_bound(py));
            let made = self.door.unread(py, index, row, &shared)?;
            gathered.put(index, made.unbind());
        }
        broken.map_or(Ok(()), Err)
    }

    /// Waits detached, then makes objects of the outcomes, slice by slice.
    ///
    /// # Errors
    /// What broke in upon it. Each outcome has its object nevertheless.
    fn step<'py>(
        &self,
        py: Python<'py>,
        want: usize,
        at_most: Duration,
        each: &mut dyn FnMut((usize, Py<PyAny>)),
    ) -> PyResult<()> {
        let mut outcomes = py.detach(|| self.run.wait(want, at_most)).into_iter();
        let mut broken = None;
        loop {
            let began = now();
            let held = HeldOff::new(py);
            let mut ended = Vec::new();
            let mut done = 0;
            for outcome in outcomes.by_ref() {
                let index = outcome.index;
                match self.object(py, outcome, &mut ended, &mut broken) {
                    Ok(made) => each((index, made)),
                    Err(error) => drop(broken.get_or_insert(error)),
                }
                done += 1;
                if done == SLICE_ROWS
                    || (done.is_multiple_of(LOOK) && now().duration_since(began) > SLICE_TIME)
                {
                    break;
                }
            }
            drop(held);
            if let Some(watch) = &self.watch
                && let Err(error) = ending::hook(py, || watch::tell(watch.bind(py), ended))
            {
                broken.get_or_insert(error);
            }
            if outcomes.len() == 0 {
                return broken.map_or(Ok(()), Err);
            }
            py.detach(|| {});
            if let Err(error) = py.check_signals() {
                broken.get_or_insert(error);
            }
            if broken.is_some() {
                self.stop(py);
            }
        }
    }

    /// The object of an outcome, whatever breaks in upon the making of it; that is kept in `broken`.
    fn object(
        &self,
        py: Python<'_>,
        mut outcome: Outcome,
        ended: &mut Vec<Ended>,
        broken: &mut Option<PyErr>,
    ) -> PyResult<Py<PyAny>> {
        let kept = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take(outcome.index);
        let Some(kept) = kept else {
            return Err(PyRuntimeError::new_err(format!("row {} ended twice", outcome.index)));
        };
        // What an earlier run has done is no request of this call.
        if self.watch.is_some()
            && !outcome.replayed
            && let Ok(how) = again(broken, || Ended::of(&outcome, kept.row.bind(py)))
        {
            ended.push(how);
        }
        let place = self.places.lock().unwrap_or_else(PoisonError::into_inner).get(outcome.index).copied();
        outcome.index = place.unwrap_or(outcome.index);
        let made = self.door.object(py, outcome, kept, broken)?;
        if self.door.ends_with(&made) {
            self.stop(py);
        }
        Ok(made.unbind())
    }

    /// The list of all rows, or for `zSession` the failure with the lowest index.
    fn result<'py>(&self, list: Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        match self.door.first_failure(&list) {
            Some(first) => Err(PyErr::from_value(first)),
            None => Ok(list),
        }
    }

    /// Takes all that is left of a stopped batch; returns what broke in upon that.
    fn drain(&self, py: Python<'_>, each: &mut dyn FnMut((usize, Py<PyAny>))) -> Option<PyErr> {
        let mut broken = None;
        while !self.run.is_finished() {
            if let Err(error) = self.step(py, usize::MAX, WAIT, each) {
                broken = Some(match broken {
                    Some(before) => weightier(py, before, Some(error)),
                    None => error,
                });
            }
        }
        broken
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.run.cancel());
    }

    /// Whether it was begun in this process. In one that was forked from that, a thread that is not there may hold its locks for ever.
    fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    fn enter(&self) -> PyResult<Call> {
        if !self.is_own() {
            return Err(PyRuntimeError::new_err(
                "this batch was begun before the process forked; begin another one",
            ));
        }
        Ok(Call::begin())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.is_own() {
            // The run is the other process's to end.
            std::mem::forget(Arc::clone(&self.run));
        }
    }
}

/// Tells the user, where the call was made, that peers need not prove who they are.
///
/// # Errors
/// The warning itself, where the user has made an exception of it: nothing that it speaks of was sent.
fn warn_unverified(py: Python<'_>, place: Option<&Py<PyAny>>) -> PyResult<()> {
    py.import("loamy._unverified")?.call_method1("warn", (place,)).map(drop)
}

/// What leaves the call: Ctrl-C with everything that is known; any other exception as itself.
fn interrupted(py: Python<'_>, error: PyErr, made: Bound<'_, PyList>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if !is_ctrl_c(py, &error) {
        return error;
    }
    let mut impatience = None;
    let made =
        again(&mut impatience, || CLASS.import(py, "loamy.errors", "BatchInterrupted")?.call1((&made,)));
    weightier(py, made.map_or_else(|other| other, PyErr::from_value), impatience)
}

/// Which of two exceptions leaves the call, where one came while it was leaving with the other. A second Ctrl-C adds nothing to what
/// is on its way; what somebody's handler raises, such as SystemExit, may not be lost.
fn weightier(py: Python<'_>, first: PyErr, later: Option<PyErr>) -> PyErr {
    later.filter(|later| !is_ctrl_c(py, later)).unwrap_or(first)
}

fn is_ctrl_c(py: Python<'_>, error: &PyErr) -> bool {
    error.get_type(py).is(py.get_type::<PyKeyboardInterrupt>())
}

#[expect(clippy::disallowed_methods, reason = "a driver: it bounds its slices and waits by the clock")]
fn now() -> Instant {
    Instant::now()
}
