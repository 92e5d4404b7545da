//! What requests share and wait for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use inas_runtime::Model;

/// Loaded models; whoever needs one waits for it.
pub(super) struct Models {
    free: Mutex<Vec<Model>>,
    returned: Condvar,
}

impl Models {
    pub(super) fn new(models: Vec<Model>) -> Self {
        Self { free: Mutex::new(models), returned: Condvar::new() }
    }

    /// Runs `work` with a model of its own.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        let free = lock(&self.free);
        let mut free = self.returned.wait_while(free, |free| free.is_empty()).unwrap_or_else(PoisonError::into_inner);
        let Some(model) = free.pop() else { unreachable!("waited until one is free") };
        drop(free);
        // Also when `work` panics, or there would be one less for ever.
        let mut borrowed = Borrowed { model: Some(model), home: self };
        let Some(model) = borrowed.model.as_mut() else { unreachable!("it is there until it is dropped") };
        work(model)
    }
}

struct Borrowed<'a> {
    model: Option<Model>,
    home: &'a Models,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        lock(&self.home.free).extend(self.model.take());
        self.home.returned.notify_one();
    }
}

/// Room for a fixed number of requests.
pub(super) struct Places {
    all: usize,
    taken: Arc<(Mutex<usize>, Condvar)>,
}

/// One of them, given back when it is dropped.
pub(super) struct Place(Arc<(Mutex<usize>, Condvar)>);

impl Places {
    pub(super) fn new(all: usize) -> Self {
        Self { all, taken: Arc::default() }
    }

    pub(super) fn all(&self) -> usize {
        self.all
    }

    pub(super) fn taken(&self) -> usize {
        *lock(&self.taken.0)
    }

    /// A place, unless all are taken.
    pub(super) fn take(&self) -> Option<Place> {
        let mut taken = lock(&self.taken.0);
        (*taken < self.all).then(|| {
            *taken += 1;
            Place(Arc::clone(&self.taken))
        })
    }

    /// Waits until none is taken, at most `time`.
    pub(super) fn wait_until_free(&self, time: Duration) {
        drop(self.taken.1.wait_timeout_while(lock(&self.taken.0), time, |taken| *taken > 0));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&self.0.0) -= 1;
        self.0.1.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
