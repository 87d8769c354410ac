//! Composes the report of what the benches recorded. Measures nothing: `cargo ci report` runs the parts first.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::{env, error::Error, path::Path};

use wormhole_benches::report::{Options, compose};

const HELP: &str = "\
Composes a report of what the benches recorded (wormhole-records in cargo's target folder).

  cargo bench -p wormhole-benches --bench report -- [--quick] [--readme] [--out FOLDER]

--quick   name the folder <date>-quick: the records are of quick runs
--readme  refresh README.md between <!-- report:begin --> and <!-- report:end -->
--out     instead of benches/reports/<date>";

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options::default();
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            // cargo's own.
            "--bench" => {}
            "--quick" => options.is_quick = true,
            "--readme" => options.refreshes_readme = true,
            "--out" => options.out = Some(words.next().ok_or("--out FOLDER")?.into()),
            "-h" | "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            _ => return Err(format!("no option {word:?}; --help tells").into()),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("benches outside of a checkout")?;
    for path in compose(root, &options)? {
        println!("{}", path.display());
    }
    Ok(())
}
