// A Modbus TCP server made of npm's modbus-serial, for the test of the driver. It prints its port, then what is written to it.
import { createServer } from 'node:net'
import modbus from 'modbus-serial'

const holding = new Map([[0, 215], [1, 0xffec], [10, 0x4148], [11, 0x0000], [20, 0x0001], [21, 0x86a0], [30, 0b1010]])
const coils = new Map([[0, true], [1, false]])
const unit = {
  getHoldingRegister: (at) => {
    if (at >= 1000) throw Object.assign(new Error('no such register'), { modbusErrorCode: 2 })
    return holding.get(at) ?? 0
  },
  getInputRegister: (at) => 1000 + at,
  getCoil: (at) => coils.get(at) ?? false,
  getDiscreteInput: (at) => at % 2 === 1,
  setRegister: (at, value) => { holding.set(at, value); console.log(`register ${at} ${value}`) },
  setCoil: (at, value) => { coils.set(at, value); console.log(`coil ${at} ${value}`) },
}
// It takes no port 0: find one that is free.
const free = createServer().listen(0, '127.0.0.1')
await new Promise((done) => free.once('listening', done))
const { port } = free.address()
await new Promise((done) => free.close(done))

const server = new modbus.ServerTCP(unit, { host: '127.0.0.1', port, unitID: 1 })
server.on('initialized', () => console.log(`port ${port}`))
server.on('error', (e) => { console.error(e); process.exit(1) })
