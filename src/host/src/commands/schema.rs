//! `inas schema`

use anyhow::Context as _;
use inas_host::schema::forms;

use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Form to print the schema of; without one, all are listed.
    name: Option<String>,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let forms = forms();
    if let Some(name) = &args.name {
        let form = forms.iter().find(|f| f.name == name).with_context(|| {
            let names: Vec<_> = forms.iter().map(|f| f.name).collect();
            format!("no form `{name}`; there are {}", names.join(", "))
        })?;
        printer.result(form.text()?)?;
        return Ok(true);
    }
    for form in &forms {
        printer.result(format_args!("{:<16} v{}  {}", form.name, form.version, form.found))?;
    }
    Ok(true)
}
