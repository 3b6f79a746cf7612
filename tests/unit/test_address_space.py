"""Libraries that do not start in the shell's address space: the door tells it, and never dies with them."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from guie import address_space
from guie.address_space import CPU_S, MARGIN, check_address_space

ENDS = {
    "by_signal": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "a library ended with SIGSEGV"),
    "by_status": ("import os\nos._exit(1)\n", "a library ended with status 1"),
    "by_error": ("raise ImportError('cannot map it')\n", "ImportError: cannot map it"),
    "never": (
        "import os, resource, signal\n"
        f"assert resource.getrlimit(resource.RLIMIT_CPU)[0] == {CPU_S}\n"
        "os.kill(os.getpid(), signal.SIGXCPU)\n",  # as the kernel does after so many seconds
        f"a library had not started after {CPU_S} s of CPU time",
    ),
    "with_words": ("import os, sys\nprint('BLAS: no', file=sys.stderr, flush=True)\nos._exit(1)\n", "BLAS: no"),
}


ARROW = """
import re, resource, sys, threading
from pathlib import Path
from guie.address_space import start_arrow
import pandas as pd

start_arrow()
for _ in range(4):  # these take the stacks of the threads that have ended
    threading.Thread(target=threading.Event().wait, daemon=True).start()
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 12_000_000, -1))
print(len(pd.read_parquet(sys.argv[1])))
"""


@pytest.fixture(autouse=True)
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the shell had a limit. Nothing else would start the process in which the libraries are tried."""
    monkeypatch.setattr(address_space, "address_limit", lambda: 2_000_000_000)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(address_space.__file__).parents[1]}")
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "")  # so that what is set for the process is put back
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL")
    n_cpu, n_io = pa.cpu_count(), pa.io_thread_count()
    yield
    pa.set_cpu_count(n_cpu)
    pa.set_io_thread_count(n_io)


@pytest.mark.parametrize("end", ENDS)
def test_every_end_of_a_library_is_told(tmp_path: Path, end: str) -> None:
    text, why = ENDS[end]
    (tmp_path / f"{end}.py").write_text(text)
    with pytest.raises(OSError) as caught:
        check_address_space([end], "door 09", tmp_path)
    told = caught.value.strerror or ""
    assert told.startswith(f"door 09 at {tmp_path}: its libraries do not start with so little address space")
    assert f"(ulimit -v is 2.0 GB; {why})" in told and told.endswith("ulimit -v unlimited") and "\n" not in told


def test_library_that_waits_for_ever_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waits.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(address_space, "LONGEST_S", 1.0)
    with pytest.raises(OSError, match=r"a library had not started after 1 s\)"):
        check_address_space(["waits"], "door 09", tmp_path)


def test_library_whose_threads_never_start_is_told_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At `ulimit -v 1100000` Arrow waited like this. The module shortens START_S in the process that tries it."""
    (tmp_path / "waits_later.py").write_text(
        "import __main__, signal, time\n"
        "import pandas\n"
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)  # as a caller may have left it\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        "__main__.START_S = 1\n"
        "pandas.read_parquet = lambda _: time.sleep(100)\n"
    )
    monkeypatch.setattr(address_space, "START_S", 1)
    monkeypatch.setattr(address_space, "LONGEST_S", 30.0)
    with pytest.raises(OSError, match=r"a library had not started after 1 s\)"):
        check_address_space(["waits_later"], "door 09", tmp_path)


def test_libraries_that_start_are_not_told(tmp_path: Path) -> None:
    (tmp_path / "starts.py").write_text("")
    check_address_space(["starts"], "door 09", tmp_path)


def test_package_is_found_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-S` leaves out what is installed. A door finds the package by the folder of its script, which the process that
    tries the libraries does not have."""
    text = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('guie') else 3)"
    monkeypatch.delenv("PYTHONPATH")
    assert address_space._failure([sys.executable, "-P", "-S", "-c", text]) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the address space in use from /proc")
def test_tables_are_read_where_no_more_threads_start(tmp_path: Path) -> None:
    pd.DataFrame({"a": range(1000)}).to_parquet(tmp_path / "a.parquet")

    command = [sys.executable, "-c", ARROW, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "1000", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads the address space in use from /proc")
def test_threads_that_do_not_start_are_an_error_and_no_wait() -> None:
    """12 MB have room for one thread's stack of 8 MB. Arrow would wait for its second one for ever."""
    before, after = ARROW.split("start_arrow()\nfor")
    script = f"{before}for{after.replace('print', 'start_arrow()  #')}"
    command = ["sh", "-c", 'ulimit -s 8192; exec "$@"', "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and done.stderr.strip().endswith("RuntimeError: can't start new thread")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the address space in use from /proc")
def test_arrow_reserves_no_gigabyte_under_a_limit(tmp_path: Path) -> None:
    """Neither in the process that tries, nor in the one that works."""
    place = tmp_path / "sizes"
    watched = (
        "import atexit, re, sys\n"
        "from pathlib import Path\n"
        "def size():\n"
        "    return int(re.search(r'VmSize:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "def grown(before=size()):\n"
        f"    with open({str(place)!r}, 'a') as file:\n"
        "        print(size() - before, file=file)\n"
        "atexit.register(grown)\n"
        "if sys.argv[1:] == ['watched']:\n"
        "    import pandas\n"
    )
    (tmp_path / "watched.py").write_text(watched)
    script = (
        "import resource, watched  # as the doors, which import no pandas before they try\n"
        "from pathlib import Path\n"
        "from guie.address_space import check_address_space\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000, -1))\n"
        "check_address_space(['watched'], 'door 09', Path('x'))\n"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # a machine of many cores needs more for each
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)
    sizes = [int(line) for line in place.read_text().split()]
    assert len(sizes) == 2 and max(sizes) < 700_000  # KB; mimalloc's arena alone has 1,048,576


def test_without_a_limit_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_space, "address_limit", lambda: None)
    check_address_space(["there.is.no.such.module"], "door 09", tmp_path)


def test_libraries_must_leave_a_margin_to_the_work(tmp_path: Path) -> None:
    """A module that reserves all but half the margin starts under the limit, and is told all the same."""
    limit = 4 * MARGIN
    (tmp_path / "reserves.py").write_text(
        "import mmap, re\n"
        "used = int(re.search(r'VmSize:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024\n"
        f"block = mmap.mmap(-1, {limit - MARGIN // 2} - used)\n"
    )
    command = [sys.executable, "-c", "import reserves"]
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]

    def under_limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

    assert subprocess.run(command, preexec_fn=under_limit, capture_output=True, check=False).returncode == 0
    tried = [sys.executable, "-P", "-m", "guie.address_space", "reserves"]
    done = subprocess.run(tried, preexec_fn=under_limit, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Cannot allocate memory" in done.stderr
