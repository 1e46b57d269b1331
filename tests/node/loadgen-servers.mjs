// Servers that loadgen's tests drive: `node loadgen-servers.mjs NAME` prints its port and serves until it is killed.

import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { WebSocketServer } from 'ws';

const servers = {
  // Greets with messages of several sizes, some compressed and some not, then echoes.
  deflate() {
    const server = new WebSocketServer({
      host: '127.0.0.1', port: 0, perMessageDeflate: { threshold: 100, zlibDeflateOptions: { level: 6 } },
    });
    server.on('connection', (socket) => {
      for (const size of [0, 10, 99, 100, 1_000, 100_000, 1_000_000]) socket.send('x'.repeat(size));
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    return server;
  },

  // The broadcast of the README of `ws`: to all, the sender included.
  'node-ws'() {
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    server.on('connection', (socket) => {
      socket.on('message', (data, isBinary) => {
        for (const client of server.clients) client.send(data, { binary: isBinary });
      });
    });
    return server;
  },

  // The application that the preset `socket-io` wants.
  'socket-io'() {
    const http = createServer();
    const io = new Server(http, { pingInterval: 100, pingTimeout: 20_000 });
    io.on('connection', (socket) => {
      socket.on('subscribe', (topic, acknowledge) => {
        socket.join(topic);
        acknowledge();
      });
      socket.on('publish', (topic, message) => io.to(topic).emit('message', message));
      // For the test: how long it has stayed, in pings answered.
      let pongs = 0;
      socket.conn.on('packet', ({ type }) => {
        if (type === 'pong' && ++pongs === 3) socket.emit('alive');
      });
    });
    return http.listen(0, '127.0.0.1');
  },
};

const server = servers[process.argv[2]]();
server.on('listening', () => console.log(server.address().port));
