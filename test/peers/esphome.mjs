// A client of ESPHome's native API made of npm's @2colors/esphome-native-api, for the test of the simulated device. It connects to
// 127.0.0.1:$ESPHOME_PORT, prints the entities and states that it is told, sets some, and prints what becomes of them.
import api from '@2colors/esphome-native-api'

const port = Number(process.env.ESPHOME_PORT)
console.log(`port ${port}`)
const client = new api.Client({ host: '127.0.0.1', port, password: process.env.ESPHOME_PASSWORD ?? '', reconnect: false })
client.on('error', (e) => { console.error(e); process.exit(1) })
client.on('deviceInfo', (info) => console.log(`device ${info.name} ${info.macAddress}`))
client.on('newEntity', (entity) => {
  const { objectId } = entity.config
  console.log(`entity ${entity.type} ${objectId}`)
  entity.on('state', (state) => {
    const { key, ...rest } = state
    console.log(`state ${objectId} ${JSON.stringify(rest)}`)
  })
})
client.on('initialized', () => {
  const named = Object.fromEntries(Object.values(client.entities).map((entity) => [entity.config.objectId, entity]))
  named.relay.setState(true)
  named.level.setState(12.5)
  named.mode.setState('Boost')
  named.blind.setPosition(0.75)
  named.restart.push()
  named.fan.setState(true)
  named.heating.setTargetTemperature(22)
})
client.connect()
