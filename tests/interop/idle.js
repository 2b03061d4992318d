// Node Bull as a consumer of eleven queues, to be measured beside ours: its processors do nothing.
//   node idle.js REDIS_URL PREFIX default|shared QUEUE...
//   shared: every queue uses the same three connections, the blocking one too, as upstream's own fix does
// Ends when its input does.
'use strict'
const Bull = require('bull')
const Redis = require('ioredis')

const [url, prefix, mode, ...names] = process.argv.slice(2)
const options = { maxRetriesPerRequest: null, enableReadyCheck: false }
const shared = new Map()

function createClient (type) {
  if (!shared.has(type)) shared.set(type, new Redis(url, options).setMaxListeners(0))
  return shared.get(type)
}

const queues = names.map(name => {
  const queue = mode === 'shared' ? new Bull(name, { prefix, createClient }) : new Bull(name, url, { prefix })
  queue.setMaxListeners(0)
  queue.process(async () => 1)
  return queue
})
Promise.all(queues.map(queue => queue.isReady())).then(() => console.log('ready'))
process.stdin.resume().on('end', () => process.exit(0))
