import type { RotationService } from '#flows/rotation'
import {
  rotatedSecretSchema,
  rotationEventSchema,
  rotationOrderSchema,
  rotationPlanSchema,
  rotationQuerySchema,
} from './contract.ts'
import { parse, present, type AdminEndpoints, type AdminRequest } from './endpoint.ts'

const run = async (rotation: RotationService, request: AdminRequest): Promise<object> => {
  const { reason, ...target } = parse(rotationOrderSchema, request.body)
  const begun = await rotation.begin(target, reason)
  const { tenant, secret, backend } = target
  await request.record({ event: 'rotation.run', tenant, detail: { secret, backend, reason, rotation: begun.id } })
  return begun
}

const handleEvent = async (rotation: RotationService, request: AdminRequest): Promise<object> => {
  const { event, ...about } = parse(rotationEventSchema, request.body)
  const begun = await rotation.event(event, present(about))
  await request.record({
    event: 'rotation.event',
    detail: { event, ...about, rotations: begun.map(({ id }) => id) },
  })
  return begun
}

const pause = async (rotation: RotationService, request: AdminRequest): Promise<object> => {
  const { reason, ...target } = parse(rotationOrderSchema, request.body)
  await rotation.pause(target, reason)
  const { tenant, secret, backend } = target
  await request.record({ event: 'rotation.pause', tenant, detail: { secret, backend, reason } })
  return { ...target, paused: reason }
}

const resume = async (rotation: RotationService, request: AdminRequest): Promise<object> => {
  const target = parse(rotatedSecretSchema, request.body)
  await rotation.resume(target)
  const { tenant, secret, backend } = target
  await request.record({ event: 'rotation.resume', tenant, detail: { secret, backend } })
  return { ...target, paused: null }
}

const retry = async (rotation: RotationService, request: AdminRequest): Promise<object> => {
  const target = parse(rotatedSecretSchema, request.body)
  const open = await rotation.retry(target)
  const { tenant, secret, backend } = target
  await request.record({ event: 'rotation.retry', tenant, detail: { secret, backend, rotation: open.id } })
  return open
}

const rollBack = async (rotation: RotationService, request: AdminRequest): Promise<object> => {
  const target = parse(rotatedSecretSchema, request.body)
  const ended = await rotation.rollBack(target, request.by())
  const { tenant, secret, backend } = target
  await request.record({ event: 'rotation.rollback', tenant, detail: { secret, backend, rotation: ended.id } })
  return ended
}

/** Rotations: begun, paused and ended here. Files alone say which secrets rotate, and how. */
export const rotationEndpoints = ({ rotation }: { readonly rotation: RotationService }): AdminEndpoints => ({
  'GET /rotations': async ({ query }) => {
    const { limit, ...filter } = parse(rotationQuerySchema, query)
    return rotation.list(present(filter), limit)
  },
  'GET /rotations/targets': async () => rotation.targets(),
  'GET /rotations/plan': async ({ query }) => rotation.plan(parse(rotationPlanSchema, query).days),
  'GET /rotations/holders': async () => rotation.checkoutsOfOld(),
  'GET /rotations/report': async () => rotation.report(),
  'POST /rotations/run': (request) => run(rotation, request),
  'POST /rotations/event': (request) => handleEvent(rotation, request),
  'POST /rotations/pause': (request) => pause(rotation, request),
  'POST /rotations/resume': (request) => resume(rotation, request),
  'POST /rotations/retry': (request) => retry(rotation, request),
  'POST /rotations/rollback': (request) => rollBack(rotation, request),
})
