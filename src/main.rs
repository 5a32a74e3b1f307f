//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    // `up` starts this program again as the guard of its nats-server.
    if let Some(code) = voicebus::bus::server::guard::run_if_asked() {
        return code;
    }
    voicebus::cli::main()
}
