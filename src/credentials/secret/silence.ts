import { DeputyError } from '#errors'

/** Whether a backend as a whole did not answer, as opposed to one path or one secret of it. */
export const isSilence = (error: unknown): boolean =>
  error instanceof DeputyError && error.code === 'secret_backend_unavailable' && error.facts['whole'] === 'yes'
