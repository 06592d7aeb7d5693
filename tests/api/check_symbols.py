#!/usr/bin/env python3
"""What libhadal shows and what it calls: check_symbols.py LIBRARY HEADER MAP

Shown are the functions of the header, and no others. Called is nothing by which a library could end, print, take signals or read the
environment of the program around it, but for what stands in ALLOWED with its reason.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# of the C library and the C++ library
FORBIDDEN = re.compile(
    r"^(secure_)?getenv$|^(set|unset|put)env$|^environ$|^__environ$|^signal$|^sig(action|procmask|nal|suspend|wait|set|interrupt)$|^pthread_sigmask$"
    r"|^raise$|^kill$|^abort$|^_?_?exit$|^_Exit$|^quick_exit$|^atexit$|^on_exit$|^__cxa_atexit$|^std(out|err|in)$|^(v|f|vf|d|vd)?printf$"
    r"|^__(v|f|vf|d|vd)?printf_chk$|^f?puts$|^f?putc$|^putchar(_unlocked)?$|^_IO_putc$|^perror$|^write$|^fwrite$|^writev$|^syslog$|^psignal$"
    r"|^err(x)?$|^warn(x)?$|^error$|^system$|^popen$|^fork$|^vfork$|^exec|^posix_spawn|^alarm$|^setitimer$|^setlocale$|^chdir$|^umask$"
    r"|^_ZSt(4cout|4cerr|4clog|3cin|5wcout|5wcerr|5wclog|4wcin)$|^_ZNSt8ios_base4Init|^_ZSt9terminatev$|^_ZSt10unexpectedv$|^__assert_fail$"
    r"|^__stack_chk_fail$|^__chk_fail$"
)
ALLOWED = {
    "_ZSt9terminatev": "called by the compiler where a noexcept function throws, which none does",
    "_ZNSt8ios_base4InitC1Ev": "includes of xgrammar make the standard streams; nothing is written to them",
    "_ZNSt8ios_base4InitD1Ev": "the same",
    "__cxa_atexit": "destroys the tables of xgrammar and ours when the library is unloaded",
    "__stack_chk_fail": "of -fstack-protector-strong: a stack that was overwritten must not go on",
    "fork": "a chip's plug-in that is given by its path is asked first in a child process",
    "_exit": "ends that child",
    "kill": "of that child alone, where it hangs",
    "write": "files: a conversation that is saved; never a descriptor that the library did not open",
}


def symbols(library: str, *flags: str) -> list[str]:
    lines = subprocess.run(["nm", "-D", *flags, library], check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split()[-1] for line in lines]


def main() -> int:
    library, header, versions = sys.argv[1:4]
    declared = set(re.findall(r"^HADAL_API [^;]*?\b(hadal_\w+)\(", Path(header).read_text(), re.M))
    listed = set(re.findall(r"^\s+(hadal_\w+);", Path(versions).read_text(), re.M))
    shown = {name.split("@")[0] for name in symbols(library, "--defined-only") if not name.startswith("HADAL_")}
    faults = [f"{name}: in the header, not shown" for name in sorted(declared - shown)]
    faults += [f"{name}: shown, and not in the header" for name in sorted(shown - declared)]
    faults += [f"{name}: in one of the header and {versions} alone" for name in sorted(declared ^ listed)]
    called = {name.split("@")[0] for name in symbols(library, "--undefined-only")}
    forbidden = {name for name in called if FORBIDDEN.search(name)}
    faults += [f"{name}: called, and a library must not" for name in sorted(forbidden - set(ALLOWED))]
    faults += [f"{name}: allowed, and not called: take it out of the list" for name in sorted(set(ALLOWED) - forbidden)]
    dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    if not re.search(r"SONAME.*\[libhadal\.so\.\d+\]", dynamic):
        faults.append("the library has no SONAME libhadal.so.N")
    for name in sorted(forbidden & set(ALLOWED)):
        print(f"called: {name} ({ALLOWED[name]})")
    print("\n".join([*faults, f"{len(shown)} functions shown, {len(called)} symbols called, {len(faults)} faults"]))
    return 1 if faults or not declared else 0


if __name__ == "__main__":
    sys.exit(main())
