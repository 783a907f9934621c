"""Starts the services that the tests talk to, runs a command, ends them: `python3 tests/services.py -- cargo nextest run --workspace`.

Redis is `redis-server` or `valkey-server` of the PATH. MongoDB is, in this order, whatever PARLANCE_TEST_MONGODB_URI names, a `mongod` of the
PATH, or SecantusDB, a stand-in from PyPI. What is missing is installed: Python packages into target/services/venv, Debian packages if it is root
who asks.

The command finds in its environment:

    PARLANCE_TEST_MONGODB_URI    replica sets with a blank between them, no database named: one for each test that runs at a time
    PARLANCE_TEST_REDIS_URL      a Redis that keeps nothing
    PARLANCE_TEST_REDIS_SERVER   the program, for tests that start and kill their own
    PARLANCE_TEST_PYTHON         a Python with aiosmtpd
"""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve() / "services"
PYTHON = HOME / "venv" / "bin" / "python"
PYMONGO, AIOSMTPD, SECANTUSDB = "pymongo==4.20.0", "aiosmtpd==1.4.6", "secantusdb==0.7.0b3"
PATIENCE = 60
# A stand-in uses one core, and as many tests run at a time as there are cores.
STAND_INS = min(os.cpu_count() or 1, 4)
# How long the open transaction of a killed client lives on, in seconds; docker/compose.yaml sets the same.
LIFETIME = 10
ENDINGS = (signal.SIGTERM, signal.SIGHUP)

# Runs in the venv: waits for a primary, initiates one if told to, and prints its version.
HELLO = """
import sys, time, pymongo
uri, name, patience = sys.argv[1], sys.argv[2], float(sys.argv[3])
until = time.monotonic() + patience
while True:
    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=2000) as client:
            hello = client.admin.command("hello")
            if hello.get("isWritablePrimary") and hello.get("setName"):
                print(client.admin.command("buildInfo")["version"])
                break
            if name and not hello.get("setName"):
                member = {"_id": 0, "host": "%s:%d" % client.address}
                client.admin.command("replSetInitiate", {"_id": name, "members": [member]})
            why = "it is no primary of a replica set"
    except pymongo.errors.PyMongoError as error:
        why = error
    if time.monotonic() > until:
        sys.exit(str(why))
    time.sleep(0.1)
"""

# Runs in the venv: the stand-in has no option for the lifetime; its own is 60 s.
STAND_IN = f"""
import sys
from secantus.cli import SecantusDBServer, main
SecantusDBServer.__init__.__kwdefaults__["transaction_lifetime_seconds"] = {LIFETIME}.0
sys.exit(main())
"""


class Missing(Exception):
    """What the tests need and cannot have, said to a person."""


class Died(Exception):
    """A service that ended instead of answering."""


def say(text):
    print(f"services: {text}", file=sys.stderr, flush=True)


def run(*command):
    """Runs an installer; its chatter is not the command's output."""
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)


def apt_install(package, why):
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"{why}; install it (Debian: apt-get install {package})")
    say(f"{why}; installing {package}")
    os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
    try:
        run("apt-get", "update")
        run("apt-get", "install", "--yes", "--no-install-recommends", package)
    except subprocess.CalledProcessError as error:
        raise Missing(f"{why}, and apt-get could not install {package}") from error


def have_packages(*wanted):
    """Installs what the venv does not have in exactly this version."""
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "lock", "w") as lock:
        # Another terminal may be doing the same.
        fcntl.flock(lock, fcntl.LOCK_EX)
        listing = (str(PYTHON), "-m", "pip", "list", "--format=json", "--disable-pip-version-check")
        have = set()
        with contextlib.suppress(OSError, subprocess.CalledProcessError, ValueError):
            found = json.loads(subprocess.run(listing, capture_output=True, check=True).stdout)
            have = {f"{package['name'].lower()}=={package['version']}" for package in found}
        missing = [package for package in wanted if package not in have]
        if not missing:
            return
        if not have:
            make_venv()
        say(f"installing {', '.join(missing)} into {PYTHON.parent.parent}")
        try:
            run(str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *missing)
        except subprocess.CalledProcessError as error:
            raise Missing(f"pip could not install {', '.join(missing)}") from error


def make_venv():
    command = (sys.executable, "-m", "venv", "--clear", str(PYTHON.parent.parent))
    # Debian's Python has `venv`, but lacks what it needs.
    if subprocess.run((sys.executable, "-c", "import ensurepip, venv"), stderr=subprocess.DEVNULL).returncode != 0:
        apt_install("python3-venv", "this Python cannot make virtual environments")
    try:
        run(*command)
    except subprocess.CalledProcessError as error:
        raise Missing(f"{' '.join(command)} failed") from error


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def die_with_parent():
    """Even a parent that is killed takes its services along, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Services:
    """What has been started, in a directory that goes with it."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.processes = []

    def start(self, name, command, answer):
        """Starts `command(port, directory)`, waits for `answer(port)`; returns the port and what was answered."""
        for attempt in range(1, 4):
            port = free_port()
            directory = self.directory / f"{name}-{port}"
            directory.mkdir()
            log = self.directory / f"{name}-{port}.log"
            with open(log, "wb") as output:
                # A group of its own: Ctrl-C is for the command, which still needs the services to end cleanly.
                process = subprocess.Popen(
                    command(port, directory),
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            self.processes.append(process)
            try:
                return port, self.wait(process, lambda: answer(port))
            except Died as why:
                say(f"{name}, attempt {attempt}: {why}\n{log.read_text(errors='replace')[-2000:]}")
        raise Missing(f"{name} does not start")

    def wait(self, process, answer):
        until = time.monotonic() + PATIENCE
        while True:
            # Another process may have taken the port in between.
            if process.poll() is not None:
                raise Died(f"it ended with {process.returncode}")
            try:
                result = answer()
            except (OSError, subprocess.CalledProcessError) as error:
                if time.monotonic() > until:
                    raise Died(f"no answer in {PATIENCE} s: {error}") from error
                time.sleep(0.05)
            else:
                if process.poll() is None:
                    return result

    def end(self):
        for process in self.processes:
            signal_group(process, signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            # Whatever is left of the group, the leader or not.
            signal_group(process, signal.SIGKILL)
            process.wait()


def signal_group(process, number):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def start_redis(services, environment):
    names = ("redis-server", "valkey-server")
    server = next(filter(None, map(shutil.which, names)), None)
    if not server:
        apt_install("redis-server", "there is no redis-server on the PATH")
        server = shutil.which("redis-server")
    if not server:
        raise Missing("redis-server was installed and is not on the PATH")

    def command(port, directory):
        options = {"port": port, "bind": "127.0.0.1", "dir": directory, "save": "", "appendonly": "no"}
        return [server] + [text for name, value in options.items() for text in (f"--{name}", str(value))]

    def ping(port):
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.settimeout(2)
            connection.sendall(b"PING\r\n")
            if connection.recv(64) != b"+PONG\r\n":
                raise OSError("no PONG")

    port, _ = services.start("redis", command, ping)
    version = subprocess.run((server, "--version"), capture_output=True, text=True).stdout.strip()
    say(f"Redis on port {port}: {version}")
    environment["PARLANCE_TEST_REDIS_URL"] = f"redis://127.0.0.1:{port}"
    environment["PARLANCE_TEST_REDIS_SERVER"] = server


def hello(uri, initiate="", patience=2):
    """Asks a server for its version; with the name of a set to initiate if it is in none."""
    command = (str(PYTHON), "-c", HELLO, uri, initiate, str(patience))
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def start_mongodb(services, environment):
    given, mongod = os.environ.get("PARLANCE_TEST_MONGODB_URI"), shutil.which("mongod")
    if given:
        have_packages(AIOSMTPD, PYMONGO)
        for uri in given.split():
            try:
                say(f"MongoDB, as PARLANCE_TEST_MONGODB_URI says: {hello(uri, patience=PATIENCE)}")
            except subprocess.CalledProcessError as error:
                raise Missing(f"PARLANCE_TEST_MONGODB_URI: {error.stderr.strip()}") from error
        return

    if mongod:
        have_packages(AIOSMTPD, PYMONGO)
        name, replica_set, initiate, count = "mongod", "rs0", "rs0", 1
        arguments = [mongod, "--bind_ip", "127.0.0.1", "--replSet", replica_set]
        arguments += ["--setParameter", f"transactionLifetimeLimitSeconds={LIFETIME}", "--dbpath"]
    else:
        have_packages(AIOSMTPD, PYMONGO, SECANTUSDB)
        name, replica_set, initiate, count = SECANTUSDB, "secantus", "", STAND_INS
        arguments = [str(PYTHON), "-c", STAND_IN, "--host", "127.0.0.1", "--log-level", "WARNING", "--storage-path"]

    uris = []
    for _ in range(count):
        # Until the set is initiated, only a direct connection finds the server.
        port, version = services.start(
            "mongodb",
            lambda port, directory: [*arguments, str(directory), "--port", str(port)],
            lambda port: hello(f"mongodb://127.0.0.1:{port}/?directConnection=true", initiate),
        )
        say(f"MongoDB on port {port}: {name}, which says it is {version}")
        uris.append(f"mongodb://127.0.0.1:{port}/?replicaSet={replica_set}")
    environment["PARLANCE_TEST_MONGODB_URI"] = " ".join(uris)


def run_command(command, environment):
    # The terminal's Ctrl-C reaches the command too, which is what should end then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command, env=environment, preexec_fn=hear_interrupts)
    except OSError as error:
        raise Missing(f"{command[0]}: {error.strerror}") from error
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        raise
    return code if code >= 0 else 128 - code


def hear_interrupts():
    # Otherwise the command would inherit that it is ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop(number, _frame):
    # Once is enough: the shutdown must not be interrupted half-way.
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(128 + number)


def main(arguments):
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    if not arguments:
        sys.exit(__doc__)
    for ending in ENDINGS:
        signal.signal(ending, stop)
    environment = dict(os.environ, PARLANCE_TEST_PYTHON=str(PYTHON))
    with tempfile.TemporaryDirectory(prefix="parlance-services-", ignore_cleanup_errors=True) as directory:
        services = Services(directory)
        try:
            start_mongodb(services, environment)
            start_redis(services, environment)
            return run_command(arguments, environment)
        except Missing as what:
            say(what)
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            for ending in (*ENDINGS, signal.SIGINT):
                signal.signal(ending, signal.SIG_IGN)
            services.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
