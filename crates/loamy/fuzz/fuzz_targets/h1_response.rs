//! Any bytes as an HTTP/1.1 response: fed whole, byte by byte and cut by the input's own second byte, and read by hyper.
//!
//! `cargo fuzz run h1_response`; on a stable toolchain `RUSTC_BOOTSTRAP=1 cargo fuzz run h1_response`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../compare.rs"]
mod compare;

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
}

fuzz_target!(|data: &[u8]| {
    let [method, stride, input @ ..] = data else {
        return;
    };
    let stride = usize::from(*stride) + 1;
    #[expect(
        clippy::disallowed_methods,
        reason = "the fuzzer's thread has no other runtime"
    )]
    RUNTIME.with(|runtime| {
        runtime.block_on(compare::compare(method & 1 == 1, input, |rest| {
            stride.min(rest)
        }))
    });
});
