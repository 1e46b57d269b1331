// node `ws`, the README's broadcast: whatever a client sends goes to all others.
// node node-ws.mjs [PORT]; prints where it listens.
import { WebSocket, WebSocketServer } from 'ws';

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2] ?? 0), clientTracking: true });

server.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    for (const client of server.clients) {
      if (client !== socket && client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    }
  });
});

server.on('listening', () => console.log(`ws://127.0.0.1:${server.address().port}/`));
