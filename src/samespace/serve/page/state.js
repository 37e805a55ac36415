// What the page knows, and where it is.

export const state = {
  galleries: null, models: [], scope: null,
  gallery: null, view: "versions",
  all: new Map(), status: null, certificates: null, jobs: [], curve: null, pictures: new Map(),
  search: { by: "image", preview: null, answer: null },
  busy: new Set(), problems: new Map(), notes: new Map(),
  asksForKey: null, gone: null, slowAt: 0,
};

/** The address of something of the gallery that is shown. */
export const path = (rest) => `v1/${encodeURIComponent(state.gallery)}${rest}`;

/** What belongs to one gallery, before anything of it is known. */
export const nothing = () => ({
  status: null, certificates: null, jobs: [], curve: null, pictures: new Map(), slowAt: 0,
  search: { by: "image", preview: null, answer: null },
});
