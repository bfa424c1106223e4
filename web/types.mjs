/** The shapes of what the viewer is told and of what it tells: for reading, nothing here is ever run. */

/**
 * What the viewer knows of the world. ComfyUI's is made of the store, the offline page's of the manifest within it.
 *
 * @typedef {object} Source
 * @property {() => Run[]} runs newest first; called often, so it answers from memory. The same run is the same object
 *   or has the same id; what has changed is told by `onChange`
 * @property {(id: string) => Promise<Manifest | null>} manifest as of now, read anew; null: cannot be had. Afterwards the
 *   run in `runs()` has it, too. Asked when a run is looked at whose `manifest` is null, or whose `stale` is true
 * @property {(id: string, file: string, at: number | null) => string} picture an address for `img.src`. A step that is
 *   written twice has the same file twice: where pictures are cached for good, `at` must be in the address
 * @property {(listener: () => void) => (() => void)} onChange calls `listener` after each change until what it
 *   returned is called
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {"running" | "finished" | "interrupted" | "failed"} state
 * @property {number | null} index the newest step that is known to exist, counted from 1
 * @property {number | null} total how many steps there will be
 * @property {number} started milliseconds since 1970; Infinity until it is known
 * @property {number | null} [written] when what is known of it was written, milliseconds since 1970; left out where its
 *   end would be told
 * @property {boolean} gone its pictures can be had no more; what was loaded stays
 * @property {Manifest | null} manifest as last read
 * @property {boolean} [stale] there is more than `manifest` says; a source that cannot know leaves it out
 * @property {{file: string, at: number | null} | null} [thumbnail] for the row of runs while there is no manifest
 *
 * @typedef {object} Manifest `run.json`; what is not known is null, keys that are not known are left alone
 * @property {string} id
 * @property {string} state as of a run
 * @property {string} started ISO 8601
 * @property {number | null} seconds
 * @property {string | null} space
 * @property {{name: string, kind: string, scale: number, source: string} | null} decoder
 * @property {{steps, sigmas, seed, cfg, name, scheduler, prompt?: string | null}} sampler
 * @property {{width, height, shown_width, shown_height, items, frames, fps} | null} picture `shown_...` is the size of
 *   the final image, which gives the box its aspect; `items` of a batch; `frames` of a video, played at `fps`
 * @property {ManifestStep[]} steps in the order of `index`
 * @property {string[]} notes
 *
 * @typedef {object} ManifestStep
 * @property {number} index counted from 1
 * @property {number | null} sigma
 * @property {number | null} at seconds since the start of the run
 * @property {string[]} files none: a step without a picture. Else in item-major order:
 *   `items * frames` of them: the frame `f` of the item `i` is `files[i * frames + f]`;
 *   `items` of them: one for each item; of a video each is an animated WebP;
 *   fewer: the first items. A step with its own `frames` has that many instead of `picture.frames`
 * @property {number} [frames]
 * @property {number | null} [decode_ms]
 *
 * @typedef {object} Shown a run at one of its steps
 * @property {Run} run
 * @property {ManifestStep | null} step null: none of it can be shown yet
 */

/**
 * How a person likes to look. A host may keep it (`options.onView`) and give it back (`options.view`); what is left out
 * is as in `VIEW` of `viewer.mjs`.
 *
 * @typedef {object} View
 * @property {number} speed steps a second when playing
 * @property {boolean} smooth enlarge smoothly; false: nearest pixel
 * @property {boolean} follow a run that begins is looked at, unless the view is locked
 * @property {"wipe" | "side" | "difference"} compare
 * @property {"step" | "sigma"} lock what two compared runs have in common
 *
 * @typedef {object} Options
 * @property {Partial<View>} [view]
 * @property {(changed: Partial<View>) => void} [onView] called with what the person has changed of it
 * @property {boolean} [wheelNeedsFocus] leave the wheel to the page around until somebody has clicked into the viewer
 * @property {string} [idle] what to say, and how to begin, while there is no run
 * @property {boolean} [still] there is one run, and nothing comes: neither steps nor runs
 */
