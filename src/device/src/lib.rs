//! Devices to measure on, and measuring on them.
//!
//! [`Device`] is a machine that runs commands and takes and gives files: this one, a phone over `adb`, a board over
//! `ssh`, or a scripted [`mock`] one. [`session`] brings `inas-profiler` and a space file there, follows its stream of
//! records through cut cables and reboots, and brings the profile back. [`doctor`] finds what stands in the way.
//!
//! Cables and logins are left to the system's own `adb` and `ssh`: they share the running adb server, the user's keys,
//! agents, jump hosts and settings, which no library does as well. `INAS_ADB` and `INAS_SSH` name other programs or add
//! options to them. Files travel through the same connection as commands (`cat`), so a device needs no sftp server.

mod bench;
mod command;
pub mod doctor;
mod elf;
mod error;
mod facts;
pub mod mock;
mod models;
pub mod session;
mod target;
mod transport;

pub use bench::Benched;
pub use command::{Limits, Stream, quote};
pub use error::{Error, Result};
pub use facts::{Battery, Facts};
pub use models::{Found, ModelJob, bench_models};
pub use session::{Event, Job, profile_on};
pub use target::{Target, attached};
pub use transport::{Device, Pushed};
