// A responder of multicast DNS made of npm's bonjour-service, for the tests of the drivers' scans. It announces the services of
// $MDNS_SERVICES, a list in JSON of what bonjour-service's publish takes, on loopback at the port $MDNS_PORT.
import { Bonjour } from 'bonjour-service'

const port = Number(process.env.MDNS_PORT)
const bonjour = new Bonjour({ port, interface: '127.0.0.1', bind: '0.0.0.0' }, (e) => { console.error(e); process.exit(1) })
const up = JSON.parse(process.env.MDNS_SERVICES).map((options) => new Promise((resolve) => {
  bonjour.publish({ probe: false, disableIPv6: true, ...options }).once('up', resolve)
}))
await Promise.all(up)
console.log(`port ${port}`)
