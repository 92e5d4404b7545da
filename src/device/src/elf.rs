//! The little of a program's header that tells where it can run.

use std::path::Path;

use crate::{Error, Result};

/// Where a Linux or Android program can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elf {
    /// Instruction set as `uname -m` has it, if known.
    pub(crate) machine: Option<&'static str>,
    /// Loader that it needs; none when static.
    pub(crate) loader: Option<String>,
}

impl Elf {
    /// Reads a file; none when it is no 64-bit little-endian ELF file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        Ok(Self::parse(&std::fs::read(path).map_err(Error::io("read", path))?))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let number = |at: usize, size: usize| -> Option<usize> {
            let field = bytes.get(at..at.checked_add(size)?)?;
            Some(field.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
        };
        let machine = match number(18, 2)? {
            62 => Some("x86_64"),
            183 => Some("aarch64"),
            243 => Some("riscv64"),
            _ => None,
        };
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let header = |i: usize| table.checked_add(i.checked_mul(size)?);
        // PT_INTERP.
        let at = (0..count).filter_map(header).find(|at| number(*at, 4) == Some(3));
        let loader = at.and_then(|at| {
            let (offset, length) = (number(at + 8, 8)?, number(at + 32, 8)?);
            let text = bytes.get(offset..offset.checked_add(length)?)?;
            Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
        });
        Some(Self { machine, loader })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_program_and_no_text() {
        let elf = Elf::read(&std::env::current_exe().unwrap()).unwrap().unwrap();
        assert_eq!(elf.machine, Some(std::env::consts::ARCH));
        assert!(elf.loader.is_some_and(|l| l.contains("ld-linux")));
        assert_eq!(Elf::parse(b"#!/bin/sh\nexit 0\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(tail in proptest::collection::vec(0u8.., 0..200)) {
            let _ = Elf::parse(&[b"\x7fELF\x02\x01".as_slice(), &tail].concat());
        }
    }
}
