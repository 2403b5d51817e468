//! Two things that std asks for, in the size that small programs need them. Linked in the place of LLVM's
//! unwinder, which is C++.
#![no_std]

use core::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    fn prctl(option: c_int, ...) -> c_int;
}

/// `PR_SET_NAME` of prctl(2): of the thread that calls.
const PR_SET_NAME: c_int = 15;

/// pthread_setname_np(3) as std calls it, always for its own thread. musl's also names others, by a path that
/// it makes with printf: 10 kB.
///
/// # Safety
/// The name ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_setname_np(_own: *mut c_void, name: *const c_char) -> c_int {
    // SAFETY: as above; the kernel reads at most 16 bytes.
    unsafe { prctl(PR_SET_NAME, name) }
}

// The programs abort on a panic and have neither tables for unwinding nor symbols: this unwinder knows no frame.

/// `_URC_END_OF_STACK` of the Itanium C++ ABI.
const END_OF_STACK: c_int = 5;

/// Visits each frame of the stack: there is none.
#[unsafe(no_mangle)]
pub extern "C" fn _Unwind_Backtrace(_visit: *mut c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What is asked about a frame that was visited, and by what would land an unwinding.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name() -> usize {
            0
        }
    )*};
}

never_called! {
    _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIP _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_SetGR _Unwind_SetIP
    _Unwind_VRS_Get _Unwind_VRS_Set
}
