//! What the process asks of the system that it runs on.

#[cfg(unix)]
use std::io::Write;

/// Ends the process at once, as far as other threads are concerned. An ordinary exit destroys C++'s static objects first, and
/// DuckDB's are in use where it comes in the middle of a publication: the process then died of SIGSEGV. What is half done is
/// safe, as after a kill.
#[cfg(unix)]
#[allow(unsafe_code, reason = "_exit has no safe binding; it returns to nobody")]
pub(crate) fn end(code: i32) -> ! {
    // A reader who has gone does not miss it.
    let _ = std::io::stdout().flush();
    unsafe { libc::_exit(code) }
}

/// Ends the process.
#[cfg(not(unix))]
pub(crate) fn end(code: i32) -> ! {
    std::process::exit(code)
}

/// Has threads share the memory that they freed. By default glibc keeps it apart for eight times as many threads as there are
/// cores: a replay of 5,000,000 events in steps of 250,000 then held 680 MB, and 480 MB so.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "mallopt has no safe binding; it is called before there is a second thread")]
pub(crate) fn share_freed_memory() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_some() {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // It says whether it did; where not, all is as it was.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, i32::try_from(cores).unwrap_or(i32::MAX)) };
}

/// Has the process keep so many bytes of memory that it freed, for the next of many alike batches: by default glibc gives large pieces back, and each
/// page that is touched anew is a fault, a sixth of the CPU time of an ingest.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "mallopt has no safe binding; it takes a lock, and may be called at any time")]
pub(crate) fn keep_freed_memory(most: u32) {
    // The first is as high as glibc takes it.
    let thresholds =
        [(libc::M_MMAP_THRESHOLD, 32 << 20), (libc::M_TRIM_THRESHOLD, i32::try_from(most).unwrap_or(i32::MAX))];
    if std::env::var_os("MALLOC_TRIM_THRESHOLD_").is_some() {
        return;
    }
    for (parameter, bytes) in thresholds {
        let _ = unsafe { libc::mallopt(parameter, bytes) };
    }
}

/// Gives memory that was freed back to the system, all but what the next messages will be in.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "malloc_trim has no safe binding; it takes a lock, and may be called at any time")]
pub(crate) fn give_memory_back() {
    let _ = unsafe { libc::malloc_trim(64 << 20) };
}

/// Bytes of memory that the process has, as far as the system tells.
pub(crate) fn resident() -> Option<u64> {
    // In pages; they have 4 KiB where it matters, and elsewhere it is an estimate.
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages << 12)
}

/// Other systems' allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_memory_back() {}

/// Other systems' allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_freed_memory() {}

/// Other systems' allocators have no such setting.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_freed_memory(_: u32) {}
