"""What a gateway file may say: the schema of ``gateways/*.yaml``, before names are resolved."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gateway.admission import AccountEntry
from gateway.mappingfile import MqttEntry
from gateway.panelfile import PrinterEntry, TransmitterEntry
from gateway.pushfile import HttpEntry
from watchroom.durations import Seconds
from watchroom.yamlfile import Strict


class GatewayEntry(Strict):
    """The gateway itself."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Id, used in topics and folder names")
    site: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Id of the site")
    own_equipment: str | None = Field(
        default=None, alias="self", description="Equipment id of the gateway's own signals"
    )
    simulated: bool = Field(default=False, description="Everything it sends is marked as simulated")
    heartbeat: Seconds = Field(default=1.0, ge=0.2, le=60, description="Time between heartbeat frames")


class LinkEntry(Strict):
    """One physical link: a TCP connection, a serial line or a broker."""

    tcp: str | None = Field(default=None, description="host:port of a Modbus TCP device or converter")
    serial: str | None = Field(default=None, description="Serial device, for example /dev/ttyUSB0")
    listen: str | None = Field(default=None, description="host:port on which devices connect to us")
    hello: str = Field(default="", description="Registration a dialled-in device sends first; text, or hex:0102FF")
    heartbeat: str = Field(default="", description="What it sends between telegrams; text, or hex:FE")
    mqtt: str | None = Field(default=None, description="mqtt://[user@]host[:port] of a broker of readers, or mqtts://")
    speaks: Literal["modbus", "gbt26875", "mqtt", "http", "text"] = Field(
        default="modbus",
        description="What goes over tcp, serial or listen. gbt26875: fire transmitters; mqtt, http: readers that "
        "connect to us; text: a printer line of a fire panel",
    )
    accounts: dict[str, AccountEntry] = Field(default={}, description="Who may connect, for mqtt and http")
    senders: list[str] = Field(
        default=[], alias="from", description="IP addresses or networks that may connect, for mqtt and http"
    )
    framing: Literal["tcp", "rtu", "ascii"] | None = Field(
        default=None, description="Telegrams: tcp on tcp, rtu on serial and listen unless it says otherwise"
    )
    timeout: Seconds = Field(default=1.0, ge=0.01, le=60, description="Longest wait for an answer")
    gap: Seconds = Field(default=0.0, ge=0, le=5, description="Silence before each request")
    settle: Seconds | None = Field(
        default=None,
        ge=0,
        le=30,
        description="Silence for a unit after a lost answer on rtu, ascii; 2 x timeout",
    )
    back_off: Seconds = Field(default=10.0, ge=1, le=600, description="Longest wait between probes of a silent device")
    baud: int = Field(default=9600, ge=300, le=921600)
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1
    qos: Literal[0, 1] = 1
    session: Literal["keep", "clean"] = Field(default="keep", description="keep: the broker holds messages meanwhile")
    password_env: str | None = Field(default=None, description="Environment variable with the broker's password")
    protocol: Literal["auto", "5", "3.1.1"] = Field(default="auto", description="MQTT version; auto tries 5 first")


class DeviceEntry(Strict):
    """One device on a link."""

    link: str
    model: str | None = Field(default=None, description="Name of a device model, for Modbus")
    unit: int | None = Field(default=None, ge=0, le=255, description="Modbus unit id")
    equipment: str | None = Field(default=None, description="Equipment the signals belong to")
    prefix: str = Field(default="", pattern=r"^([a-z][a-z0-9_]*)?$", description="Goes before each signal's name")
    place: str | None = Field(default=None, description="For people: where it hangs")
    overrides: dict[str, Any] = Field(
        default={}, alias="set", description="signal.key -> value in place of the model's"
    )
    params: dict[str, float] = Field(default={}, description="Numbers for the model's expressions")
    mqtt: MqttEntry | None = Field(default=None, description="Messages of a reader")
    http: HttpEntry | None = Field(default=None, description="On a link that speaks http")
    printer: PrinterEntry | None = Field(default=None, description="On a link that speaks text")
    transmitter: TransmitterEntry | None = Field(default=None, description="On a link that speaks gbt26875")


class GatewayFile(Strict):
    """One gateway file."""

    gateway: GatewayEntry
    links: dict[str, LinkEntry] = Field(min_length=1)
    devices: dict[str, DeviceEntry] = {}
