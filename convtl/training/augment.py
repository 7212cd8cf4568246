"""Random augmentation on the device, drawn anew for each update, run and image.

Images come normalised, so amounts of colour are in units of the image itself.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from convtl.config.training import AugmentConfig


@partial(jax.jit, static_argnames="config")
def augment(
    key: jax.Array, images: Float[Array, "batch height width channels"], config: AugmentConfig
) -> Float[Array, "batch height width channels"]:
    """Crop, flip and colour images, in this order; a pure function of the key.

    - A crop [a, b] (Szegedy et al. 2015): a part with a share of the area uniform in [a, b] and a ratio of sides
      log-uniform in [3/4, 4/3], no side longer than the image's, at a random place, resized bilinearly.
    - A flip: left and right are exchanged with probability 1/2.
    - Colour of strength s, with u, v, w uniform in [-1, 1]: brightness adds s u standard deviations of the image;
      contrast multiplies distances from the image's mean by 1 + s v, saturation those from a pixel's mean by 1 + s w.
    """
    cropping, flipping, colouring = jax.random.split(key, 3)
    count = len(images)
    if config.crop is not None:
        resized = jax.vmap(partial(_resized_crop, scale=config.crop))
        images = resized(jax.random.split(cropping, count), images)
    if config.flip:
        flipped = jax.random.bernoulli(flipping, 0.5, (count, 1, 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    if config.colour:
        coloured = jax.vmap(partial(_coloured, strength=config.colour))
        images = coloured(jax.random.uniform(colouring, (count, 3), minval=-1, maxval=1), images)
    return images


def blend(
    key: jax.Array, images: Float[Array, "batch ..."], labels: Int[Array, "batch"], alpha: float
) -> tuple[Float[Array, "batch ..."], Int[Array, "batch"], Float[Array, ""]]:
    """MixUp (Zhang et al. 2018): share x image + (1 - share) x partner, of one batch.

    Returns:
      Blended images; labels of the partners; the share, from Beta(alpha, alpha), which blends the loss, too.
    """
    sharing, pairing = jax.random.split(key)
    share = jax.random.beta(sharing, alpha, alpha)
    partners = jax.random.permutation(pairing, len(images))
    return share * images + (1 - share) * images[partners], labels[partners], share


def _resized_crop(
    key: jax.Array, image: Float[Array, "height width channels"], scale: tuple[float, float]
) -> Float[Array, "height width channels"]:
    how_much, which_way, where = jax.random.split(key, 3)
    area = jax.random.uniform(how_much, minval=scale[0], maxval=scale[1])
    low, high = jnp.log(jnp.asarray((3 / 4, 4 / 3)))  # as torchvision's `RandomResizedCrop`
    aspect = jnp.exp(jax.random.uniform(which_way, minval=low, maxval=high))
    sides = jnp.sqrt(jnp.stack([area / aspect, area * aspect]))
    shares = jnp.minimum(1, sides)  # of height and width
    size = jnp.asarray(image.shape[:2], jnp.float32)
    corner = jax.random.uniform(where, (2,)) * (1 - shares) * size
    resized: Array = jax.image.scale_and_translate(
        image, image.shape, (0, 1), scale=1 / shares, translation=-corner / shares, method="linear"
    )
    return resized


def _coloured(
    amounts: Float[Array, "3"], image: Float[Array, "height width channels"], strength: float
) -> Float[Array, "height width channels"]:
    brighter, contrast, saturation = strength * amounts
    image = image + brighter * image.std()
    image = image.mean() + (1 + contrast) * (image - image.mean())
    if image.shape[-1] == 1:
        return image
    grey = image.mean(-1, keepdims=True)
    saturated: Array = grey + (1 + saturation) * (image - grey)
    return saturated
