// A device that answers searches by SSDP, made of npm's node-ssdp, for the test of a driver's scan. It listens on loopback at the
// port $SSDP_PORT; its description is at $SSDP_LOCATION.
import os from 'node:os'
import ssdp from 'node-ssdp'

// node-ssdp passes over loopback: here it is the only interface, and one like others.
const { lo } = os.networkInterfaces()
os.networkInterfaces = () => ({ lo: lo.map((address) => ({ ...address, internal: false })) })

const port = Number(process.env.SSDP_PORT)
const server = new ssdp.Server({ location: process.env.SSDP_LOCATION, udn: 'uuid:5d794fc2-5c5e-4460-a023-f04a51363300', ssdpPort: port, sourcePort: port,
  ssdpSig: 'Test/1.0 UPnP/1.1 Lamp/2.3', suppressRootDeviceAdvertisements: false })
server.addUSN('upnp:rootdevice')
server.addUSN('urn:schemas-upnp-org:device:Lamp:1')
await server.start()
console.log(`port ${port}`)
