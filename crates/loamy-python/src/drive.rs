//! A batch driven from Python: the one place that attaches to the interpreter and lets go of it.
//!
//! Rows go in and outcomes come out in slices while the network works on threads that never touch Python. Between the
//! slices, signal handlers run; whatever one raises stops the batch at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use loamy::{Client, Outcome, Run};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple, PyType};

use crate::collector::HeldOff;
use crate::convert::{self, Row, Terms};
use crate::door::Door;
use crate::ending::{self, Call};
use crate::failure::{self, again};
use crate::recording;
use crate::resending::{self, Key};
use crate::response::Response;
use crate::rows::{Gathered, Kept, Rows};
use crate::slice::{Slice, now};
use crate::watch::{self, Ended};

/// Responses that a function of the user's gets at once, so that the end of the process does not wait for all of them.
const FEW: usize = 64;
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
    /// What became of the rows before, where they are sent again: their responses bear the same indexes.
    again: Vec<Py<Response>>,
    /// Is told of each row that ended, whatever the door makes of it.
    watch: Option<Py<PyAny>>,
    looked: Mutex<Instant>,
    process: u32,
    begun: AtomicBool,
    /// What `run` made of its rows, kept for a Ctrl-C that comes when it has returned.
    made: Mutex<Option<Py<PyList>>>,
}

#[pymethods]
impl Batch {
    #[new]
    #[pyo3(signature = (
        policy, door="front", response_class=None, first_failure_ends=false, place=None, watch=None, journal=None,
        carried=None, again=None
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
        again: Option<Vec<Py<Response>>>,
    ) -> PyResult<Self> {
        if ending::is_near() {
            return Err(PyRuntimeError::new_err(
                "the interpreter is shutting down; nothing can be sent any more",
            ));
        }
        let door = Door::new(door, response_class, first_failure_ends)?;
        let mut terms = convert::terms(policy)?;
        terms.carry(&carried.unwrap_or_default());
        let again = again.unwrap_or_default();
        resending::prepare(py, &again, &mut terms)?;
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
            again,
            watch,
            looked: Mutex::new(now()),
            process: std::process::id(),
            begun: AtomicBool::new(false),
            made: Mutex::default(),
        })
    }

    /// Sends the rows and returns what came of each, in order.
    /// `tell` gets the numbers of `progress`, `each` lists of what has ended.
    #[pyo3(signature = (rows, tell=None, each=None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyList>,
        tell: Option<&Bound<'py, PyAny>>,
        each: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let _call = self.enter()?;
        self.begun.store(true, Ordering::Release);
        let mut gathered = Gathered::of(rows.len());
        let mut admitted = 0;
        let stopped = self.through(py, rows, &mut admitted, &mut gathered, Told { tell, each }).err();
        let Some(error) = stopped else {
            let made = gathered.into_list(py)?;
            recording::end(py, &self.run, Some(&made))?;
            self.keep(&made);
            return self.result(made);
        };
        if !self.is_own() {
            return Err(error);
        }
        self.stop(py);
        self.run.close();
        let unread = self.fill_unread(py, rows, admitted, &mut gathered);
        let later = self.drain(py, &mut |(index, made)| {
            gathered.put(index, made);
            Ok(())
        });
        // What interrupts the call is told, whatever became of its record; the next run finds that out.
        let _ = recording::end(py, &self.run, None);
        let error = weightier(py, error, later.or(unread.err()));
        let made = gathered.into_list(py)?;
        if is_ctrl_c(py, &error) {
            self.keep(&made);
        }
        Err(interrupted(py, error, made))
    }

    /// What came of every row, for a Ctrl-C before `run` or after it. None where something else ended that.
    fn left<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyList>) -> PyResult<Option<Bound<'py, PyList>>> {
        if let Some(made) = &*self.made.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Some(made.bind(py).clone()));
        }
        if self.begun.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut gathered = Gathered::of(rows.len());
        self.fill_unread(py, rows, 0, &mut gathered)?;
        gathered.into_list(py).map(Some)
    }

    /// Adds rows and takes them out of the list; they are on their way when this returns. Those that it could not come to are still
    /// in the list.
    fn admit(&self, py: Python<'_>, rows: &Bound<'_, PyList>) -> PyResult<()> {
        let _call = self.enter()?;
        while !rows.is_empty() {
            let mut admitted = 0;
            let read = self.slice_in(py, rows, &mut admitted, rows.len());
            rows.del_slice(0, admitted)?;
            if !read? {
                break;
            }
            self.heed(py)?;
        }
        Ok(())
    }

    /// Rows that were added and not taken.
    #[getter]
    fn under_way(&self) -> usize {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).outstanding()
    }

    /// Says that no more rows will come.
    fn close(&self) {
        if self.is_own() {
            self.run.close();
        }
    }

    /// Waits until `want` rows have ended, or all, or the seconds have passed; appends all that have to the list, as they ended, also
    /// where it raises. Returns how many.
    fn take(&self, py: Python<'_>, want: usize, seconds: f64, into: &Bound<'_, PyList>) -> PyResult<usize> {
        let _call = self.enter()?;
        let end = now()
            + Duration::try_from_secs_f64(seconds.max(0.0))
                .unwrap_or(Duration::MAX)
                .min(Duration::from_secs(1 << 30));
        let mut taken = 0;
        let mut put = |(_, made): (usize, Py<PyAny>)| {
            taken += 1;
            into.append(made)
        };
        let had = into.len();
        let waited = loop {
            let left = end.saturating_duration_since(now()).min(WAIT);
            let missing = want.saturating_sub(into.len() - had);
            let step = self.step(py, missing, left, &mut put);
            let step = step.and_then(|()| self.look_up(py, None));
            let step = step.and_then(|()| if self.run.is_finished() { self.warn(py) } else { Ok(()) });
            if step.is_err() || into.len() - had >= want || self.run.is_finished() || now() >= end {
                break step;
            }
        };
        let Err(error) = waited else {
            return Ok(taken);
        };
        if !self.is_own() {
            return Err(error);
        }
        self.stop(py);
        self.run.close();
        let later = self.drain(py, &mut put);
        Err(weightier(py, error, later))
    }

    /// Ends the batch: rows in flight as `cancelled`, waiting ones as `not_sent`. No byte is written after it returns.
    fn cancel(&self, py: Python<'_>) {
        self.stop(py);
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
                Ok(())
            });
            step?;
            if let Some(each) = told.each {
                for few in fresh.chunks(FEW) {
                    self.hook(py, || each.call1((PyList::new(py, few)?,)))?;
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
        self.heed(py)?;
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
        self.hook(py, || tell.call1(progress)).map(drop)
    }

    /// Calls a function of the user's.
    ///
    /// # Errors
    /// What it raises; RuntimeError in a process that it has forked, and returned in.
    fn hook<T>(&self, py: Python<'_>, call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        let made = ending::hook(py, call)?;
        self.own().map(|()| made)
    }

    /// Runs signal handlers.
    ///
    /// # Errors
    /// As [`hook`](Self::hook).
    fn heed(&self, py: Python<'_>) -> PyResult<()> {
        py.check_signals()?;
        self.own()
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
        let mut slice = Slice::begin();
        let held = HeldOff::new(py);
        // Rows that are added to the list meanwhile are none of this call's.
        let room = total.saturating_sub(*admitted).min(Slice::room());
        let mut requests = Vec::with_capacity(room);
        let mut kept = Vec::with_capacity(room);
        let first = self.rows.lock().unwrap_or_else(PoisonError::into_inner).next();
        let keys = &self.terms.policy().idempotency;
        while requests.len() < room {
            let Ok(row) = rows.get_item(*admitted + requests.len()) else {
                break;
            };
            let Row { mut request, tag } = convert::row(&row, &self.terms)?;
            let is_over = slice.ends_with(request.payload().len());
            let (place, before) = self.place(first + requests.len());
            let key = resending::give(&mut request, before, keys, place);
            requests.push(request);
            kept.push(Kept { row: row.unbind(), tag, key });
            if is_over {
                break;
            }
        }
        drop(held);
        if self.terms.take_unverified() {
            warn_unverified(py, self.place.as_ref())?;
        }
        self.own()?;
        let count = requests.len();
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
        let shared = again(py, &mut broken, || failure::unread_together(py))?;
        let key = Key::of_unread(&self.terms.policy().idempotency);
        for index in from..gathered.made.len() {
            let row = rows.get_item(index).unwrap_or_else(|_| py.None().into_bound(py));
            let (place, before) = self.place(index);
            let key = before.cloned().or_else(|| key.clone());
            let made = self.door.unread(py, place, row, &shared, key, &mut broken)?;
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
        each: &mut dyn FnMut((usize, Py<PyAny>)) -> PyResult<()>,
    ) -> PyResult<()> {
        let mut outcomes = py.detach(|| self.run.wait(want, at_most)).into_iter();
        let mut broken = None;
        loop {
            let mut slice = Slice::begin();
            let held = HeldOff::new(py);
            let mut ended = Vec::new();
            for outcome in outcomes.by_ref() {
                let index = outcome.index;
                let is_over = slice.ends_with(outcome.response().map_or(0, |answer| answer.body().len()));
                let made = self.object(py, outcome, &mut ended, &mut broken);
                if let Err(error) = made.and_then(|made| each((index, made))) {
                    broken.get_or_insert(error);
                }
                if is_over {
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
                return broken.map_or_else(|| self.own(), Err);
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
            && let Ok(how) = again(py, broken, || Ended::of(&outcome, kept.row.bind(py)))
        {
            ended.push(how);
        }
        (outcome.index, _) = self.place(outcome.index);
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
    fn drain(
        &self,
        py: Python<'_>,
        each: &mut dyn FnMut((usize, Py<PyAny>)) -> PyResult<()>,
    ) -> Option<PyErr> {
        let mut broken = None;
        while self.is_own() && !self.run.is_finished() {
            if let Err(error) = self.step(py, usize::MAX, WAIT, each) {
                broken = Some(match broken {
                    Some(before) => weightier(py, before, Some(error)),
                    None => error,
                });
            }
        }
        broken
    }

    fn keep(&self, made: &Bound<'_, PyList>) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.clone().unbind());
    }

    /// The index that the response of a row bears, and the key that the row had before.
    fn place(&self, index: usize) -> (usize, Option<&Arc<Key>>) {
        match self.again.get(index).map(Py::get) {
            Some(before) => (before.index(), before.key()),
            None => (index, None),
        }
    }

    fn stop(&self, py: Python<'_>) {
        if self.is_own() {
            py.detach(|| self.run.cancel());
        }
    }

    /// Whether it was begun in this process. In one that was forked from that, a thread that is not there may hold its locks for ever.
    fn is_own(&self) -> bool {
        self.process == std::process::id()
    }

    fn own(&self) -> PyResult<()> {
        if self.is_own() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("this batch was begun before the process forked; begin another one"))
    }

    fn enter(&self) -> PyResult<Call> {
        self.own().map(|()| Call::begin())
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
    if !is_ctrl_c(py, &error) {
        return error;
    }
    let mut impatience = None;
    let made = again(py, &mut impatience, || batch_interrupted(py)?.call1((&made,)));
    let made = made.map_or_else(|other| other, PyErr::from_value);
    if !error.get_type(py).is(py.get_type::<PyKeyboardInterrupt>()) {
        made.set_cause(py, Some(error));
    }
    weightier(py, made, impatience)
}

fn batch_interrupted(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "loamy.errors", "BatchInterrupted")
}

/// Which of two exceptions leaves the call, where one came while it was leaving with the other. A second Ctrl-C adds nothing to what
/// is on its way; what somebody's handler raises, such as SystemExit, may not be lost.
fn weightier(py: Python<'_>, first: PyErr, later: Option<PyErr>) -> PyErr {
    later.filter(|later| !is_ctrl_c(py, later)).unwrap_or(first)
}

/// A subclass of somebody's own is none. What another call within this one made of it has the rows of that call only.
fn is_ctrl_c(py: Python<'_>, error: &PyErr) -> bool {
    let class = error.get_type(py);
    class.is(py.get_type::<PyKeyboardInterrupt>()) || batch_interrupted(py).is_ok_and(|own| class.is(own))
}
