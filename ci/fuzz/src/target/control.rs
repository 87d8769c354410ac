//! Any line as a request over the control socket of a host.

use engine::control::protocol::Request;

/// All bytes are the line.
pub(super) fn run(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return };
    let line = serde_json::to_vec(&request).expect("what was read can be written");
    let again: Request = serde_json::from_slice(&line).expect("what was written can be read");
    assert_eq!(again, request);
}
