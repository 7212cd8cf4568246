import numpy as np
import pytest
from skimage.feature import hog

from convtl.measure.distance import CELLS, ORIENTATIONS, SIDE, oriented_gradients, pixel_space


def _images(shape: tuple[int, ...] = (6, SIDE, SIDE, 1), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_edges_are_scikit_images_for_a_block_of_all_cells() -> None:
    images = _images()[..., 0].astype(np.float64)
    found = oriented_gradients(images)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    for image, features in zip(images, found, strict=True):
        expected = hog(
            image,
            orientations=ORIENTATIONS,
            pixels_per_cell=(SIDE // CELLS, SIDE // CELLS),
            cells_per_block=(CELLS, CELLS),
            block_norm="L2",
        )
        np.testing.assert_allclose(features, expected, atol=1e-6)


def test_coarse_pixels_are_means_over_areas() -> None:
    images = _images()
    found = pixel_space(images)[:, :49]
    means = images[..., 0].reshape(6, 7, 4, 7, 4).mean((2, 4)).reshape(6, 49)
    expected = means / np.linalg.norm(means, axis=1, keepdims=True) * 7
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 28, 28, 1), (4, 16, 16, 1), (4, 65, 40, 3), (0, 28, 28, 1)])
def test_images_of_any_shape_lie_on_one_sphere(shape: tuple[int, ...]) -> None:
    found = pixel_space(_images(shape))
    assert found.shape == (shape[0], 177)
    np.testing.assert_allclose(np.square(found).sum(1), 177)


def test_sizes_are_areas_not_samples() -> None:
    images = _images()
    larger = images.repeat(3, axis=1).repeat(3, axis=2)
    np.testing.assert_allclose(pixel_space(larger), pixel_space(images), atol=1e-9)


def test_contrast_does_not_matter_and_polarity_not_to_edges() -> None:
    images = _images()
    np.testing.assert_allclose(pixel_space(images * 5), pixel_space(images), atol=1e-5)
    np.testing.assert_allclose(pixel_space(-images)[:, 49:], pixel_space(images)[:, 49:], atol=1e-5)
    np.testing.assert_allclose(
        pixel_space(-images)[:, :49], -pixel_space(images)[:, :49], atol=1e-5
    )


def test_an_images_features_depend_on_no_other_image() -> None:
    images = _images()
    np.testing.assert_array_equal(pixel_space(images[2:4]), pixel_space(images)[2:4])


def test_an_image_without_anything_is_zeros() -> None:
    assert not pixel_space(np.zeros((2, SIDE, SIDE, 1), np.float32)).any()


def test_images_without_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="height, width, channels"):
        pixel_space(_images()[..., 0])
