// Bun's own publish/subscribe, as its documentation shows it: whoever connects is subscribed to the topic it names
// (?topic=NAME, else the path), and what a client sends goes to all others.
// bun bun.mjs [PORT]; prints where it listens.
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.argv[2] ?? 0),
  fetch(request, server) {
    const url = new URL(request.url);
    const topic = url.searchParams.get('topic') ?? url.pathname;
    const upgraded = server.upgrade(request, { data: { topic } });
    return upgraded ? undefined : new Response('a WebSocket is expected', { status: 426 });
  },
  websocket: {
    open(socket) {
      socket.subscribe(socket.data.topic);
    },
    message(socket, message) {
      socket.publish(socket.data.topic, message);
    },
  },
});

console.log(`ws://127.0.0.1:${server.port}/`);
