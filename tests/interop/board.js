// bull-board without its page: the routes that its page calls, called here without a server between.
'use strict'
const { createBullBoard } = require('@bull-board/api')
const { BullAdapter } = require('@bull-board/api/bullAdapter')

// What bull-board takes for a server: it keeps the queues and the routes it is given, and ignores the rest.
class Routes {
  setQueues (queues) {
    this.queues = queues
    return this
  }

  setApiRoutes (routes) {
    this.routes = routes
    return this
  }

  setStaticPath () { return this }
  setViewsPath () { return this }
  setUIConfig () { return this }
  setEntryRoute () { return this }
  setErrorHandler () { return this }
}

// Answers a request as bull-board would: {status, body}.
async function askBoard (queue, method, route, params, query) {
  const server = new Routes()
  createBullBoard({ queues: [new BullAdapter(queue)], serverAdapter: server })
  const found = server.routes.find(one => one.method === method && one.route === route)
  const answer = await found.handler({
    queues: server.queues,
    params: { queueName: queue.name, ...params },
    query: query || {},
    body: {},
    headers: {}
  })
  return { status: 200, ...answer }
}

module.exports = { askBoard }
