// npm bull, driven line by line: each line of stdin is a request, each line of stdout an answer or an event.
//   node oracle.js REDIS_URL PREFIX bull|bull-4.15
//   {id, queue, call, args}        a method of the Queue
//   {id, queue, job, call, args}   a method of the Job with that id
//   {id, queue, next: true}        take the next job, as a worker would
//   {id, queue, limiter}           limit the worker of a queue that was not used yet
//   {id, queue, process: true}     run jobs: each answers with its own data; {ran: <job id>} is told when it is done
//   {id, queue, board: {method, route, params, query}}   ask bull-board about the queue: {status, body}
//   {id, cron: [{expression, tz, after}, ..]}   when each is due next, and then, and then; [] where cron-parser refuses
//   {id, queue, start: olderMs}    what upstream does to a queue when it starts, before it processes
//   {id, forget: true}             close every queue: one process serves many tests, and none may meet another's
'use strict'
const readline = require('readline')
const Bull = require(process.argv[4])
const { askBoard } = require('./board')
const cron = require(require.resolve('cron-parser', { paths: [require.resolve('bull')] }))

const queues = new Map()
const taken = new Map() // jobs this process holds, by queue and id: their lock token is the queue object's

function queueOf (name, limiter) {
  if (!queues.has(name)) {
    const queue = new Bull(name, process.argv[2], { prefix: process.argv[3], ...(limiter && { limiter }) })
    queue.on('error', error => tell({ error: error.message, queue: name }))
    queues.set(name, queue)
  }
  return queues.get(name)
}

function tell (message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}

function plain (value) {
  if (Array.isArray(value)) return value.map(plain)
  return value && typeof value.toJSON === 'function' ? value.toJSON() : value
}

async function forgetAll () {
  const open = [...queues.values()]
  queues.clear()
  taken.clear()
  await Promise.all(open.map(queue => queue.close(true)))
}

// The three next moments, each asked for as bull asks: anew, from the one before.
function dueNext ({ expression, tz, after }) {
  const moments = []
  try {
    while (moments.length < 3) {
      after = cron.parseExpression(expression, { currentDate: new Date(after), tz }).next().getTime()
      moments.push(after)
    }
  } catch (error) {
    // refused, or there is none any more
  }
  return moments
}

// Upstream's registration of a queue: resume it for everyone, then remove and add again what has waited for long.
async function start (queue, olderMs) {
  await queue.resume()
  const old = (await queue.getJobs(['waiting', 'delayed'])).filter(job => job.timestamp <= Date.now() - olderMs)
  for (const job of old) {
    await job.remove()
    await queue.add(job.data, { ...job.opts, jobId: job.id })
  }
  return old.length
}

async function answer (request) {
  const { queue: name, job: jobId, call, args = [], next, limiter, process: run, board, start: olderMs } = request
  if (request.forget) return forgetAll()
  if (request.cron) return request.cron.map(dueNext)
  const queue = queueOf(name, limiter)
  if (limiter) return queue.isReady().then(() => true)
  if (olderMs !== undefined) return start(queue, olderMs)
  if (next) {
    const job = await queue.getNextJob()
    if (job) taken.set(name + '/' + job.id, job)
    return job
  }
  if (run) {
    queue.on('completed', job => tell({ ran: job.id }))
    queue.process(5, async job => job.data)
    await queue.isReady()
    return true
  }
  if (board) return askBoard(queue, board.method, board.route, board.params, board.query)
  if (jobId === undefined) return queue[call](...args)
  const job = taken.get(name + '/' + jobId) || await queue.getJob(jobId)
  const [reason, ...others] = args
  return call === 'moveToFailed' ? job[call](new Error(reason), ...others) : job[call](...args)
}

readline.createInterface({ input: process.stdin }).on('line', async line => {
  const request = JSON.parse(line)
  try {
    tell({ id: request.id, value: plain(await answer(request)) })
  } catch (error) {
    tell({ id: request.id, thrown: error.message })
  }
}).on('close', () => process.exit(0))
tell({ ready: true })
