//! voicebus.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = voicebus::bus::server::guard::run_if_asked() {
        return code;
    }
    ExitCode::SUCCESS
}
