use std::str::FromStr;

use crate::transport::{Device, System, adb, cannot_start};
use crate::{Error, Result};

/// A device as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// This machine, with the measuring program as a process of its own.
    Local,
    /// A phone over `adb`: serial number or `host:port`; none is the only one attached.
    Adb(Option<String>),
    /// A board over `ssh`.
    Ssh {
        /// `user@host`, or a name of the user's ssh settings.
        login: String,
        /// Port, if not ssh's own choice.
        port: Option<u16>,
    },
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::Target { text: text.to_owned() };
        // Nothing that the programs would take for an option or a second word.
        let word = |w: &str| !w.is_empty() && !w.starts_with('-') && !w.contains(char::is_whitespace);
        match text.split_once(':') {
            None if text == "local" => Ok(Self::Local),
            None if text == "adb" => Ok(Self::Adb(None)),
            Some(("adb", serial)) if word(serial) => Ok(Self::Adb(Some(serial.to_owned()))),
            Some(("ssh", login)) => {
                let (login, port) = match login.rsplit_once(':') {
                    // The colons of an IPv6 address are no port, unless it is in brackets.
                    Some((host, _)) if host.contains(':') && !host.ends_with(']') => (login, None),
                    Some((host, port)) => (host, Some(port.parse().map_err(|_| bad())?)),
                    None => (login, None),
                };
                let login = login.replace(['[', ']'], "");
                if word(&login) { Ok(Self::Ssh { login, port }) } else { Err(bad()) }
            }
            _ => Err(bad()),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Adb(None) => f.write_str("adb"),
            Self::Adb(Some(serial)) => write!(f, "adb:{serial}"),
            Self::Ssh { login, port: None } => write!(f, "ssh:{login}"),
            Self::Ssh { login, port: Some(port) } => write!(f, "ssh:{login}:{port}"),
        }
    }
}

impl Target {
    /// The device; `folder` replaces the folder it works in.
    pub fn open(&self, folder: Option<String>) -> Result<Box<dyn Device>> {
        let system = match self {
            Self::Local => System::local(),
            Self::Adb(Some(serial)) => System::adb(serial.clone()),
            Self::Adb(None) => System::adb(only_one(&attached()?)?),
            Self::Ssh { login, port } => System::ssh(login, *port),
        };
        Ok(Box::new(system.in_folder(folder)))
    }

    /// The target as the name of a folder.
    pub fn folder_name(&self) -> String {
        self.to_string().chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
    }
}

/// Phones that adb knows: serial and state (`device` is ready, `offline`, `unauthorized`, `no permissions`…).
pub fn attached() -> Result<Vec<(String, String)>> {
    let mut child = adb();
    let output = child.arg("devices").output().map_err(cannot_start(&child))?;
    Ok(parse_devices(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_devices(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().skip_while(|l| !l.starts_with("List of devices")).skip(1);
    let pair = |l: &str| l.split_once('\t').map(|(serial, state)| (serial.trim().to_owned(), state.trim().to_owned()));
    lines.filter_map(pair).collect()
}

fn only_one(attached: &[(String, String)]) -> Result<String> {
    let unfit = |what: String, remedy: &str| Error::Unfit { device: "adb".into(), what, remedy: remedy.into() };
    match attached {
        [] => Err(unfit(
            "no phone is attached".into(),
            "see android/README.md; `inas doctor --target adb` checks each step",
        )),
        [(serial, _)] => Ok(serial.clone()),
        more => {
            let serials: Vec<&str> = more.iter().map(|d| d.0.as_str()).collect();
            Err(unfit(
                format!("{} phones are attached", more.len()),
                &format!("choose with adb:SERIAL: {}", serials.join(", ")),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_they_are_read() {
        for text in
            ["local", "adb", "adb:R58M", "adb:10.0.0.7:5555", "ssh:nano@jetson", "ssh:nano@jetson:2222", "ssh:board"]
        {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let v6: Target = "ssh:me@[fe80::1]:22".parse().unwrap();
        assert_eq!(v6, Target::Ssh { login: "me@fe80::1".into(), port: Some(22) });
        for bad in
            ["", "phone", "adb:", "ssh:", "ssh:a b", "ssh:h:port", "ssh:-oProxyCommand=x", "adb:-s", "usb:1", "local:1"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        assert_eq!("adb:10.0.0.7:5555".parse::<Target>().unwrap().folder_name(), "adb-10.0.0.7-5555");
    }

    #[test]
    fn adb_list_is_read_and_ambiguity_refused() {
        let text = "* daemon started successfully\nList of devices attached\nR58M\tdevice\n1234\tunauthorized\n\n";
        let list = parse_devices(text);
        assert_eq!(list, [("R58M".into(), "device".into()), ("1234".into(), "unauthorized".into())]);
        assert_eq!(only_one(&list[..1]).unwrap(), "R58M");
        assert!(only_one(&list).unwrap_err().to_string().contains("R58M, 1234"));
        assert!(only_one(&[]).unwrap_err().to_string().contains("no phone"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            if let Ok(target) = text.parse::<Target>() {
                proptest::prop_assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
            }
        }
    }
}
