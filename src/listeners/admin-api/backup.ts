import { basename } from 'node:path'
import { refuse } from '#errors'
import { backupSchema } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { parse, type AdminEndpoints } from './endpoint.ts'

/** A backup that another process makes: it is recorded, and told how far the audit log is durable. */
export const backupEndpoints = ({ store }: AdminContext): AdminEndpoints => ({
  'POST /backup': async (request) => {
    const { id } = parse(backupSchema, request.body)
    if (store.audit.segments === undefined)
      throw refuse('config_invalid', { problem: 'the store is in Postgres, which pg_dump copies' })
    await request.recordFirst({ event: 'store.backup', detail: { backup: id } })
    const files = await store.audit.segments()
    return { files: files.map(({ path, bytes }) => ({ name: basename(path), path, bytes })) }
  },
})
