// Upstream's producers: add ai-parsing jobs with the payloads and options of its addJob, all at the same moment.
//   node upstream.js REDIS_URL < rows.json      rows as its Upload and WorkflowExecution tables hold them
// Prints the ids Bull gave the jobs, in the order of the rows.
'use strict'
const Bull = require('bull')

const JOB_OPTIONS = {
  removeOnComplete: 10,
  removeOnFail: 50,
  delay: 0,
  attempts: 3,
  backoff: { type: 'exponential', delay: 2000 }
}

// What production sends, every minute from a cron: where the file is, never what is in it.
function fromCron (row) {
  return {
    stage: 'ai_parsing',
    workflowId: row.workflowId,
    data: {
      uploadId: row.uploadId,
      merchantId: row.merchantId,
      fileUrl: row.fileUrl,
      fileName: row.fileName,
      fileSize: row.fileSize,
      mimeType: row.mimeType,
      fileType: row.mimeType.split('/')[1],
      supplierId: null,
      purchaseOrderId: row.purchaseOrderId,
      source: 'cron-processing',
      queuedAt: row.createdAt
    }
  }
}

// Releases before October 2025 put the file into the job, each in its own way.
const SHAPES = {
  buffer: content => content, // JSON makes {type: 'Buffer', data: [..]} of it
  data: content => ({ data: [...content] }),
  list: content => [...content],
  base64: content => ({ base64: content.toString('base64') }),
  text: content => content.toString('base64')
}

function fromUploadRoute (row) {
  return {
    stage: 'ai_parsing',
    workflowId: row.workflowId,
    data: {
      uploadId: row.uploadId,
      fileName: row.fileName,
      fileSize: row.fileSize,
      mimeType: row.mimeType,
      merchantId: row.merchantId,
      supplierId: null,
      purchaseOrderId: row.purchaseOrderId,
      fileBuffer: SHAPES[row.shape](Buffer.from(row.content, 'base64')),
      aiSettings: { confidenceThreshold: 0.8, customRules: [], strictMatching: false },
      metadata: { uploadedAt: row.createdAt, originalFileName: row.fileName },
      workflowId: row.workflowId,
      stage: 'ai_parsing',
      timestamp: row.createdAt,
      stages: {}
    }
  }
}

async function main () {
  const rows = JSON.parse(require('fs').readFileSync(0))
  const queue = new Bull('ai-parsing', process.argv[2])
  const payloads = rows.map(row => row.shape ? fromUploadRoute(row) : fromCron(row))
  const jobs = await Promise.all(payloads.map(payload => queue.add(payload, JOB_OPTIONS)))
  console.log(JSON.stringify(jobs.map(job => job.id)))
  await queue.close()
}

main()
