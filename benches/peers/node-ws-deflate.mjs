// node `ws`, the README's broadcast, with permessage-deflate for each client by itself: no context is kept, and the level is
// that of Fanfare, so that both do the same work for a message.
// node node-ws-deflate.mjs [PORT]; prints where it listens.
import { WebSocket, WebSocketServer } from 'ws';

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2] ?? 0),
  clientTracking: true,
  perMessageDeflate: {
    threshold: 0,
    serverNoContextTakeover: true,
    clientNoContextTakeover: true,
    zlibDeflateOptions: { level: 3 },
  },
});

server.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    for (const client of server.clients) {
      if (client !== socket && client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    }
  });
});

server.on('listening', () => console.log(`ws://127.0.0.1:${server.address().port}/`));
