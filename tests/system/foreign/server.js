// A Modbus TCP server made with the npm package modbus-serial: server.js PORT UNIT REGISTER...
// The registers (hexadecimal) are holding registers from 0 on; beyond them it answers "illegal address".
const { ServerTCP } = require("modbus-serial");

const [port, unit, ...words] = process.argv.slice(2);
const registers = words.map((word) => parseInt(word, 16));
const vector = {
  getHoldingRegister(address) {
    if (address < registers.length) return registers[address];
    throw { modbusErrorCode: 2, msg: "illegal address" };
  },
};
new ServerTCP(vector, { host: "127.0.0.1", port: Number(port), unitID: Number(unit) });
