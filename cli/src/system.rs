//! What the process asks of the system that it runs on.

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

/// Other systems' allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_freed_memory() {}
