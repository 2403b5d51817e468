//! The unwinder that std asks for, in programs that abort on a panic and have neither tables for
//! unwinding nor symbols: it knows no frame. Linked in the place of LLVM's, which is C++.
#![no_std]

use core::ffi::{c_int, c_void};

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
