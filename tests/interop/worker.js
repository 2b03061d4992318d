// A bull worker that runs a chain of queues as our own does: counts each run, works, hands on, completes.
//   node worker.js REDIS_URL NAME JSON      {queues: {name: concurrency}, settings: bull's own}
// A job's data: {ms: [of the first run, of the next ..], next: [ids of the jobs that follow, one queue further each]}
// Every run is appended to the list `po:ran:<id>` before its work begins. Ends by a signal.
'use strict'
const Bull = require('bull')
const Redis = require('ioredis')

const [url, name, text] = process.argv.slice(2)
const { queues: concurrency, settings } = JSON.parse(text)
const names = Object.keys(concurrency)
const counting = new Redis(url)
const queues = names.map(queue => new Bull(queue, url, { settings }))

async function run (job) {
  const { ms, next: [id, ...next] } = job.data
  const runs = await counting.rpush('po:ran:' + job.id, name)
  await new Promise(resolve => setTimeout(resolve, ms[Math.min(runs, ms.length) - 1]))
  if (id) await queues[names.length - 1 - next.length].add({ ms, next }, { jobId: id })
  return { by: name }
}

queues.forEach((queue, index) => {
  queue.on('error', error => process.stderr.write(error.message + '\n'))
  queue.process(concurrency[names[index]], run)
})
